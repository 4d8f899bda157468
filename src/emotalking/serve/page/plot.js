// Curves of a training as SVG: the axis is the iterations of the whole run, with its stages.

const NAMESPACE = "http://www.w3.org/2000/svg";
const WIDTH = 480;
const HEIGHT = 190;
const LEFT = 46;
const BOTTOM = 24;
const TOP = 12;

function shape(tag, attributes, text) {
  const made = document.createElementNS(NAMESPACE, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

/** Three to five round values between two. */
function ticks(low, high) {
  const rough = (high - low) / 4;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find((factor) => factor * power >= rough);
  const values = [];
  for (let value = Math.ceil(low / step) * step; value <= high + 1e-9; value += step) values.push(value);
  return values;
}

/**
 * Draw curves.
 *
 * lines: {name: [[iteration, value], ...]}; stages: [{name, start, iterations}]; logarithmic: of the values.
 */
export function plot({ title, unit, lines, stages, logarithmic = false }) {
  const drawing = shape("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", class: "plot" });
  const end = Math.max(1, ...stages.map(({ start, iterations }) => start + iterations));
  const scale = logarithmic ? (value) => Math.log10(Math.max(value, 1e-9)) : (value) => value;
  const values = Object.values(lines).flat().map(([, value]) => scale(value));
  if (!values.length) return null;
  let [low, high] = [Math.min(...values), Math.max(...values)];
  const margin = Math.max(0.05 * (high - low), 1e-3 * Math.max(1, Math.abs(high)));
  [low, high] = [low - margin, high + margin];
  const x = (at) => LEFT + ((WIDTH - LEFT - 8) * at) / end;
  const y = (value) => HEIGHT - BOTTOM - ((HEIGHT - BOTTOM - TOP) * (value - low)) / (high - low);
  const newest = Object.entries(lines).map(([name, points]) => `${name} ${points.at(-1)[1].toPrecision(3)} ${unit}`);
  drawing.append(shape("title", {}, `${title}: ${newest.join(", ")}`));
  for (const value of ticks(low, high)) {
    const label = logarithmic ? (10 ** value).toPrecision(1) : Number(value.toPrecision(6));
    drawing.append(shape("line", { x1: LEFT, x2: WIDTH - 8, y1: y(value), y2: y(value), class: "grid" }));
    drawing.append(shape("text", { x: LEFT - 8, y: y(value) + 4, class: "tick end" }, `${label}`));
  }
  for (const { name, start } of stages) {
    if (start) drawing.append(shape("line", { x1: x(start), x2: x(start), y1: TOP, y2: HEIGHT - BOTTOM, class: "stage-line" }));
    const late = x(start) > WIDTH - 60;
    drawing.append(shape("text", { x: late ? WIDTH - 4 : x(start) + 3, y: HEIGHT - 7, class: late ? "tick end" : "tick" }, name));
  }
  Object.values(lines).forEach((points, number) => {
    const path = points.map(([at, value]) => `${x(at).toFixed(1)},${y(scale(value)).toFixed(1)}`).join(" ");
    drawing.append(shape("polyline", { points: path, class: `curve curve-${number}` }));
    const [at, value] = points.at(-1);
    drawing.append(shape("circle", { cx: x(at), cy: y(scale(value)), r: 3, class: `dot curve-${number}` }));
  });
  return drawing;
}
