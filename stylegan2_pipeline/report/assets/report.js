"use strict";
// The readout of charts (mouse, touch, arrow keys) and the slider through grids. The page is whole without it.

function nearest(values, wanted) {
  let low = 0, high = values.length - 1;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (values[middle] <= wanted) low = middle; else high = middle;
  }
  return wanted - values[low] <= values[high] - wanted ? low : high;
}

function place(axis, value) {
  const scaled = axis.log ? Math.log10 : (v) => v;
  const part = (scaled(value) - scaled(axis.lo)) / (scaled(axis.hi) - scaled(axis.lo));
  return axis.start + part * (axis.end - axis.start);
}

function figureText(value) {
  if (value !== 0 && (Math.abs(value) < 1e-3 || Math.abs(value) >= 1e5)) return value.toExponential(2);
  return String(Number(value.toPrecision(4)));
}

function addReadout(chart) {
  const svg = chart.querySelector(":scope > svg");
  const data = JSON.parse(chart.querySelector("script").textContent);
  const readout = chart.querySelector(".readout");
  const cursor = svg.querySelector(".cursor");
  const dots = svg.querySelectorAll(".here");
  const all = [...new Set(data.lines.flatMap((line) => line.x))].sort((a, b) => a - b);
  let at = all.length - 1;

  function show(index) {
    at = Math.max(0, Math.min(all.length - 1, index));
    const x = place(data.x, all[at]);
    cursor.setAttribute("x1", x);
    cursor.setAttribute("x2", x);
    cursor.setAttribute("visibility", "visible");
    const texts = data.lines.map((line, i) => {
      const near = nearest(line.x, all[at]);
      const inside = all[at] >= line.x[0] && all[at] <= line.x[line.x.length - 1] && line.y[near] !== null;
      dots[i].setAttribute("visibility", inside ? "visible" : "hidden");
      if (!inside) return null;
      dots[i].setAttribute("cx", place(data.x, line.x[near]));
      dots[i].setAttribute("cy", place(data.y, line.y[near]));
      return `${line.name} ${figureText(line.y[near])}`;
    });
    readout.textContent = [`${figureText(all[at])} ${data.x_name}`, ...texts.filter((text) => text !== null)].join("   ");
  }

  function hide() {
    cursor.setAttribute("visibility", "hidden");
    dots.forEach((dot) => dot.setAttribute("visibility", "hidden"));
    readout.textContent = "\u00a0";
  }

  function follow(event) {
    const box = svg.getBoundingClientRect();
    const pixel = (event.clientX - box.left) / box.width * svg.viewBox.baseVal.width;
    const part = (pixel - data.x.start) / (data.x.end - data.x.start);
    show(nearest(all, data.x.lo + part * (data.x.hi - data.x.lo)));
  }

  svg.addEventListener("pointermove", follow);
  svg.addEventListener("pointerdown", follow);
  svg.addEventListener("pointerleave", (event) => { if (event.pointerType === "mouse") hide(); });
  svg.addEventListener("blur", hide);
  svg.addEventListener("keydown", (event) => {
    const steps = { ArrowLeft: -1, ArrowRight: 1, Home: -all.length, End: all.length };
    if (!(event.key in steps)) return;
    event.preventDefault();
    show(at + steps[event.key]);
  });
}

function addSlider(slides) {
  const pictures = [...slides.querySelectorAll("figure")];
  const range = slides.querySelector("input");
  const label = slides.querySelector("output");
  const button = slides.querySelector("button");
  let timer = null;

  function show() {
    pictures.forEach((picture, i) => picture.classList.toggle("shown", i === Number(range.value)));
    label.textContent = pictures[Number(range.value)].dataset.when;
  }

  function stop() {
    clearInterval(timer);
    timer = null;
    button.textContent = "Play";
  }

  button.addEventListener("click", () => {
    if (timer !== null) return stop();
    if (Number(range.value) === pictures.length - 1) range.value = 0;
    button.textContent = "Stop";
    show();
    timer = setInterval(() => {
      range.value = Number(range.value) + 1;
      show();
      if (Number(range.value) === pictures.length - 1) stop();
    }, 700);
  });
  range.addEventListener("input", () => { stop(); show(); });
  slides.classList.add("on");
  show();
}

document.querySelectorAll(".chart").forEach(addReadout);
document.querySelectorAll(".slides").forEach(addSlider);
document.querySelectorAll("pre.log").forEach((log) => { log.scrollTop = log.scrollHeight; });
