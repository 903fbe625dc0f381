# The toolkit with its native operators compiled, so that the image that runs needs no compiler. For x86-64 with AVX2.
#
# Build; the second for your GPU alone, which is quicker (`stylegan2 doctor` names its compute capability):
#
#     docker build --tag stylegan2 .
#     docker build --tag stylegan2 --build-arg CUDA_ARCHS=8.9 .
#
# Run; the folder that you are in is /work, and files made there are yours. GPUs need the NVIDIA Container Toolkit:
#
#     docker run --rm --gpus all stylegan2 doctor
#     docker run --rm --gpus all --shm-size 8g --user "$(id -u):$(id -g)" --volume "$PWD:/work" stylegan2 \
#         train --data data/sigara.zip --gpus 1
#     docker run --rm --user "$(id -u):$(id -g)" --volume "$PWD:/work" --publish 6006:6006 --entrypoint tensorboard \
#         stylegan2 --logdir training-runs --bind_all

FROM python:3.11-slim AS install
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PATH=/opt/venv/bin:$PATH
RUN python -m venv /opt/venv
WORKDIR /source
# torch by itself first: gigabytes that a change of the sources does not load again
COPY constraints.txt .
RUN pip install --constraint constraints.txt torch
COPY . .
RUN pip install --constraint constraints.txt .

FROM install AS compile
RUN apt-get update && apt-get install --yes --no-install-recommends g++ && rm -rf /var/lib/apt/lists/*
# torch from PyPI pins its CUDA as a version of cuda-toolkit, which is there by now: this adds the nvcc of that version
RUN pip install --constraint constraints.txt "cuda-toolkit[nvcc,cccl]"
# +PTX: GPUs that are none of these and newer translate it when they load it
ARG CUDA_ARCHS="7.5 8.0 8.6 8.9 9.0+PTX 12.0"
ENV STYLEGAN2_CACHE=/opt/stylegan2-cache STYLEGAN2_OPS_BUILD_TIMEOUT=3600
RUN stylegan2 build-ops --cpu-level avx2 --arch "$CUDA_ARCHS"

FROM python:3.11-slim
COPY --from=install /opt/venv /opt/venv
COPY --from=compile /opt/stylegan2-cache /opt/stylegan2-cache
# whoever runs it may add to the cache (downloads, statistics), and nobody may change the libraries in it
RUN useradd --uid 1000 --create-home stylegan2 && chmod 1777 /opt/stylegan2-cache && \
    mkdir /work && chown stylegan2:stylegan2 /work
# HOME and USER: torch asks for the user's name, and with --user there may be none
ENV PATH=/opt/venv/bin:$PATH STYLEGAN2_CACHE=/opt/stylegan2-cache HOME=/tmp USER=stylegan2 \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
USER stylegan2
RUN STYLEGAN2_OPS=native stylegan2 doctor --device cpu
WORKDIR /work
VOLUME /work
ENTRYPOINT ["stylegan2"]
CMD ["--help"]
