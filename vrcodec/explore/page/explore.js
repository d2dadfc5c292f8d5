const SETTLED = 200; // milliseconds that the dials rest before a file is made
const byPart = (name) => document.querySelector(`[data-part=${name}]`);
const stage = new Stage(byPart("work"));
const EXACT = "the file, exactly";
const state = { model: null, picture: null, dials: {}, exact: null, words: "", others: {}, curve: null };

// Every failure is said, in one line; what was given up on purpose is none.
function say(text) {
  byPart("message").textContent = text;
  byPart("message").hidden = !text;
}

function failed(error) {
  if (error.name === "AbortError") return;
  const lost = error instanceof TypeError;
  say(lost ? "No answer from vrcodec: is it still running?" : error.message);
}

async function ask(path, body, signal) {
  const options = { signal };
  if (body !== undefined) {
    options.method = "POST";
    options.body = body instanceof Blob ? body : JSON.stringify(body);
  }
  const answer = await fetch(path, options);
  if (!answer.ok) {
    const told = await answer.json().catch(() => null);
    throw new Error(told?.error ?? `vrcodec answers ${answer.status}`);
  }
  return answer;
}

async function* lines(path, body, signal) {
  const answer = await ask(path, body, signal);
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const parts = (rest + value).split("\n");
    rest = parts.pop();
    for (const text of parts) {
      const line = JSON.parse(text);
      signal?.throwIfAborted();
      if (line.error) throw new Error(line.error);
      yield line;
    }
  }
}

const here = (path) => `pictures/${state.picture.id}/${path}`;

// Pictures of either side are blobs; the one before is let go of. A side shows what was asked for it
// last: whatever was asked for it before is given up, however late it comes.
const urls = {};
const asked = {};
function claim(side, signal) {
  asked[side]?.abort();
  asked[side] = new AbortController();
  return AbortSignal.any([asked[side].signal, ...(signal ? [signal] : [])]);
}

async function show(side, path, title, { body, signal } = {}) {
  const mine = claim(side, signal);
  const answer = await ask(path, body, mine);
  const picture = await answer.blob();
  mine.throwIfAborted();
  const before = urls[side];
  urls[side] = URL.createObjectURL(picture);
  stage.show(side, urls[side], title);
  await stage.sides[side].image.decode().catch(() => {});
  if (before) URL.revokeObjectURL(before);
  mine.throwIfAborted();
  return answer;
}

// One thing at a time that takes long, which can be cancelled. What is to be done `otherwise` is
// done when it fails or is cancelled, but not when something else takes its place.
let patient = null;
async function takeTime(what, work, otherwise = () => {}) {
  giveUp();
  const mine = new AbortController();
  patient = mine;
  const bar = byPart("progress").querySelector("progress");
  bar.removeAttribute("value");
  byPart("doing").textContent = what;
  byPart("progress").hidden = false;
  try {
    await work(mine.signal, (line) => {
      if (line.progress !== undefined) bar.value = line.progress;
    });
    if (patient === mine) giveUp();
  } catch (error) {
    failed(error);
    if (patient !== mine) return;
    giveUp();
    otherwise();
  }
}

function giveUp() {
  patient?.abort();
  patient = null;
  byPart("progress").hidden = true;
}
byPart("cancel").addEventListener("click", () => patient?.abort());

// What is known of the file: a guess while the dials move, then the file itself.
function tell(facts, isGuess) {
  const cells = [
    ["File size", facts.bytes, 0, "bytes", true], ["Bits per pixel", facts.bpp, 3, "", true],
    ["Of the raw size", facts.bpp && (100 * facts.bpp) / 24, 1, "%", true],
    ...state.model.metrics.map((m) => [m.title, facts[m.name], m.places, m.unit]),
  ];
  byPart("facts").replaceChildren(...cells.map(([title, value, places, unit, estimated]) => {
    const cell = document.createElement("div");
    cell.appendChild(document.createElement("dt")).textContent = title;
    const shown = cell.appendChild(document.createElement("dd"));
    shown.classList.toggle("guess", isGuess);
    shown.textContent = value === undefined ? "…" : number(value, places);
    if (value !== undefined && value !== null && unit) shown.textContent += ` ${unit}`;
    if (isGuess && estimated && value !== undefined) shown.textContent = `≈ ${shown.textContent}`;
    return cell;
  }));
}

// What is not known of a file and will not be measured any more.
function unmeasured(facts) {
  for (const name of ["bytes", "bpp", ...state.model.metrics.map((m) => m.name)]) facts[name] ??= null;
  return facts;
}

function tag() {
  return state.model.dials.map((d) => `${d.name} ${number(state.dials[d.name], 2)}`).join(", ");
}

// The newest wish wins: while one picture is made the others wait, and only the last is made.
class Newest {
  constructor(make) {
    this.make = make;
    this.wishes = 0;
    this.busy = false;
  }

  // Whether what was wanted last is made now; if not, another call is at it.
  async wish() {
    this.wishes += 1;
    if (this.busy) return false;
    this.busy = true;
    for (let made = 0; made !== this.wishes;) {
      made = this.wishes;
      try {
        await this.make();
      } catch (error) {
        failed(error);
      }
    }
    this.busy = false;
    return true;
  }
}

const previews = new Newest(preview);
let rested = 0; // when the dials will have rested
let settled = null;
let coding = new AbortController(); // of what follows the dials, until something moves again
let guess = null;

function begin() {
  coding.abort();
  coding = new AbortController();
  return coding.signal;
}

function stop() {
  coding.abort();
  clearTimeout(settled);
  giveUp();
}

function move() {
  stop();
  say("");
  state.words = "";
  byPart("files").hidden = byPart("bought").hidden = true;
  followDials();
  plot();
  follow().catch(failed);
}

async function follow() {
  rested = performance.now() + SETTLED;
  begin();
  if (!await previews.wish()) return;
  const { signal } = coding; // of the newest move, which may not be this one
  if (guess && !signal.aborted) await measure(guess, signal).catch(() => {}); // the file's come anyway
  if (signal.aborted || styling()) return;
  settled = setTimeout(() => code(signal).catch(failed), rested - performance.now());
}

async function preview() {
  const { picture } = state;
  guess = null;
  if (coding.signal.aborted || styling()) return;
  byPart("state").textContent = "preview";
  if (picture.width * picture.height > state.model.preview_pixels) return;
  const answer = await show("left", here("preview"), tag(), { body: { dials: state.dials } });
  if (coding.signal.aborted || picture !== state.picture || styling()) return;
  guess = JSON.parse(answer.headers.get("X-Facts"));
  tell(guess, true);
}

// What takes longer to measure of a preview, until something moves again.
async function measure(facts, signal) {
  for await (const line of lines(here(`previews/${facts.preview}`), undefined, signal)) {
    tell(Object.assign(facts, line), true);
  }
}

async function code(signal) {
  try {
    state.plain = await receive(here("code"), { dials: state.dials }, signal);
  } catch (error) {
    if (!signal.aborted) {
      byPart("state").textContent = "no file";
      tell(unmeasured({ ...guess }), true);
    }
    throw error;
  }
  compareAgain();
}

// A file as it is made: its size first, and what takes longer to measure as it comes.
async function receive(path, body, signal, { words = EXACT, onLine = () => {} } = {}) {
  const facts = {};
  byPart("state").textContent = "coding…";
  for await (const line of lines(path, body, signal)) {
    onLine(line);
    if (line.progress === undefined) {
      Object.assign(facts, line);
      if (line.made) await take(facts, words, signal);
      tell(facts, false);
    }
  }
  byPart("state").textContent = words;
  table();
  plot();
  return facts;
}

// Figures of a file that are still to come are written into the same `facts`.
async function take(facts, words, signal) {
  Object.assign(state, { exact: facts, words: "", others: {} });
  Object.assign(state.dials, facts.dials);
  followDials();
  await show("left", here(`made/${facts.made}/shown`), tag(), { signal });
  state.words = words;
  offer(facts);
  byPart("bought").hidden = true;
  table();
  plot();
  if (byPart("beside").value === "bits") await beside(signal).catch(failed);
}

// When no other file has come: the one before, if it is there; else one for where the dials are.
function resume() {
  if (!state.words) {
    follow().catch(failed);
    return;
  }
  tell(unmeasured(state.exact), false);
  byPart("state").textContent = state.words;
  table();
  if (!state.others[byPart("beside").value]) compareAgain();
}

function stem() {
  return state.picture.name.replace(/\.[^.]*$/, "") || "picture";
}

function offer({ made }) {
  for (const [kind, end] of [["vrc", ".vrc"], ["png", ".decoded.png"]]) {
    byPart(kind).href = here(`made/${made}/${kind}`);
    byPart(kind).download = stem() + end;
  }
  byPart("files").hidden = false;
}

// The right side: the original, the map of bits, or another codec's file of the same size.
async function beside(signal) {
  const choice = byPart("beside").value;
  byPart("legend").hidden = true;
  claim("right");
  if (choice === "original") return show("right", here("original"), "original", { signal });
  if (choice === "bits") return state.exact ? showBits(signal) : undefined;
  return compare(choice);
}

async function showBits(signal) {
  const path = here(`made/${state.exact.made}/bits`);
  const answer = await show("right", path, "where the bits go", { signal });
  const { mean, largest } = JSON.parse(answer.headers.get("X-Facts"));
  const ramp = document.createElement("span");
  ramp.className = "ramp";
  byPart("legend").replaceChildren(
    "Bits for 16×16 pixels: 0", ramp,
    `${number(largest, 0)}; on average ${number(mean, 1)}, by the entropy model.`,
  );
  byPart("legend").hidden = false;
}

function compare(name) {
  const { exact } = state;
  if (!exact?.bytes) return undefined;
  return takeTime(`${state.model.codecs[name]} at this size`, async (signal) => {
    const body = { codec: name, bytes: exact.bytes };
    const facts = {};
    try {
      for await (const line of lines(here("compare"), body, signal)) {
        state.others[name] = Object.assign(facts, line);
        table();
        if (line.made && byPart("beside").value === name) {
          const title = `${facts.title}, its quality ${facts.quality}`;
          await show("right", here(`made/${line.made}/shown`), title, { signal }).catch(failed);
        }
      }
    } finally {
      unmeasured(facts);
      table();
    }
  });
}

function compareAgain() {
  if (state.model.codecs[byPart("beside").value]) compare(byPart("beside").value);
}

function table() {
  const ours = state.exact?.bytes ? [{ title: "vrcodec", ...state.exact }] : [];
  const rows = [...ours, ...Object.values(state.others).filter((one) => one.bytes)];
  byPart("rows").replaceChildren(...rows.map((facts) => {
    const line = document.createElement("tr");
    line.appendChild(document.createElement("th")).textContent = facts.title;
    const size = number(facts.bytes, 0) + (facts.fits === false ? " (its smallest)" : "");
    const values = state.model.metrics.map((m) => (
      facts[m.name] === undefined ? "…" : number(facts[m.name], m.places)
    ));
    for (const text of [size, ...values]) {
      line.appendChild(document.createElement("td")).textContent = text;
    }
    return line;
  }));
}

// Curve and point, drawn here: one picture's, as its points come.
const SVG = "http://www.w3.org/2000/svg";
function draw(parent, name, attributes, text) {
  const element = parent.appendChild(document.createElementNS(SVG, name));
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text !== undefined) element.textContent = text;
  return element;
}

// Whether a curve's other dials are these, as far as files tell places on a dial apart.
function belongs(curve, dials) {
  return Object.entries(curve.dials).every(([name, value]) => Math.abs(value - dials[name]) < 0.005);
}

function noteOn(curve) {
  const at = Object.entries(curve.dials).map(([name, value]) => `${name} ${number(value, 2)}`).join(", ");
  const notes = [];
  if (!belongs(curve, state.dials)) notes.push(`Drawn at ${at}, where the dials are no longer.`);
  if (curve.ended && !curve.whole) notes.push(`Unfinished: ${curve.points.length} points.`);
  byPart("curvenote").textContent = notes.join(" ");
  byPart("curvenote").hidden = !notes.length;
}

function plot() {
  const figure = byPart("plot");
  figure.querySelector("svg")?.remove();
  const metric = state.model.metrics.find((m) => m.name === byPart("metric").value);
  const { curve } = state;
  const points = (curve?.points ?? []).filter((one) => Number.isFinite(one[metric.name]));
  figure.hidden = byPart("curvenote").hidden = points.length < 2;
  if (figure.hidden) return;
  noteOn(curve);
  const [width, height, left, low] = [400, 260, 44, 226];
  const rates = points.map((one) => Math.log2(one.bpp));
  const values = points.map((one) => one[metric.name]);
  const span = (list) => [Math.min(...list), Math.max(...list)];
  const [[a, b], [c, d]] = [span(rates), span(values)];
  const x = (bpp) => left + 8 + ((width - left - 24) * (Math.log2(bpp) - a)) / (b - a || 1);
  const y = (value) => low - 8 - ((low - 24) * (value - c)) / (d - c || 1);
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.setAttribute("role", "img");
  if (!belongs(curve, state.dials)) svg.setAttribute("class", "elsewhere");
  svg.setAttribute("aria-label", `${metric.title} over bits per pixel, of this picture`);
  figure.prepend(svg);
  for (let e = Math.ceil(a); e <= b; e += 1) {
    draw(svg, "line", { class: "grid", x1: x(2 ** e), x2: x(2 ** e), y1: 8, y2: low });
    draw(svg, "text", { x: x(2 ** e), y: low + 14, "text-anchor": "middle" }, String(2 ** e));
  }
  const step = [1, 2, 5, 10, 20, 50].find((one) => (d - c) / one <= 6) ?? 100;
  for (let v = Math.ceil(c / step) * step; v <= d; v += step) {
    draw(svg, "line", { class: "grid", x1: left, x2: width - 8, y1: y(v), y2: y(v) });
    draw(svg, "text", { x: left - 6, y: y(v) + 4, "text-anchor": "end" }, String(v));
  }
  draw(svg, "text", { x: (left + width) / 2, y: height - 4, "text-anchor": "middle" }, "bits per pixel");
  draw(svg, "text", { x: left, y: 4, dy: "0.6em" }, `${metric.title} ${metric.unit}`);
  const path = points.map((one) => `${x(one.bpp)},${y(one[metric.name])}`).join(" ");
  draw(svg, "polyline", { class: "own", points: path });
  const words = (one) => `${number(one.bpp, 3)} bpp, ${metric.title} ${number(one[metric.name], metric.places)}`;
  for (const one of points) {
    draw(svg, "circle", {
      class: "point dot", r: 4, cx: x(one.bpp), cy: y(one[metric.name]),
      "aria-label": `quality ${one.quality}: ${words(one)}`,
    });
  }
  const now = state.exact;
  if (now?.dials && belongs(curve, now.dials) && Number.isFinite(now[metric.name])) {
    draw(svg, "circle", {
      class: "point here", r: 6, cx: x(now.bpp), cy: y(now[metric.name]),
      "aria-label": `here: ${words(now)}`,
    });
  }
}

byPart("curve").addEventListener("submit", (event) => {
  event.preventDefault();
  say("");
  const curve = { dials: others(), points: [], ended: false, whole: false };
  state.curve = curve;
  plot();
  takeTime("the curve", async (signal, progress) => {
    try {
      for await (const line of lines(here("curve"), { dials: curve.dials }, signal)) {
        progress(line);
        if (line.point) curve.points.push(line.point);
        plot();
      }
      curve.whole = true;
    } finally {
      curve.ended = true;
      plot();
    }
  });
});
byPart("metric").addEventListener("change", plot);

function others() {
  const first = state.model.dials[0].name;
  return Object.fromEntries(Object.entries(state.dials).filter(([name]) => name !== first));
}

byPart("target").addEventListener("submit", (event) => {
  event.preventDefault();
  const target = { measure: byPart("measure").value, value: Number(byPart("value").value) };
  stop();
  say("");
  takeTime("looking for it", async (signal, onLine) => {
    const body = { dials: others(), target };
    state.plain = await receive(here("code"), body, signal, { onLine });
    compareAgain();
  }, resume);
});

byPart("effort").addEventListener("submit", (event) => {
  event.preventDefault();
  const effort = Number(byPart("level").value);
  stop();
  say("");
  takeTime(`effort ${effort}`, async (signal, onLine) => {
    const known = JSON.stringify(state.plain?.dials) === JSON.stringify(state.dials);
    if (!known) state.plain = await receive(here("code"), { dials: state.dials }, signal);
    const { plain } = state;
    const words = `${EXACT}, with effort ${effort}`;
    const now = await receive(here("code"), { dials: state.dials, effort }, signal, { words, onLine });
    const bytes = 100 * (now.bytes / plain.bytes - 1);
    const signed = (value, places) => (value > 0 ? "+" : "") + number(value, places).replace("-", "−");
    byPart("bought").textContent = `Effort ${effort}: ${number(now.bytes, 0)} bytes instead of `
      + `${number(plain.bytes, 0)} (${signed(bytes, 1)} %), PSNR ${signed(now.psnr - plain.psnr, 2)} dB.`;
    byPart("bought").hidden = false;
    compareAgain();
  }, resume);
});

// Dials come from the weights, of the codec or of a style: sliders in a box.
function makeDials(box, dials, positions, moved) {
  box.replaceChildren(...dials.map((dial) => {
    positions[dial.name] ??= dial.default;
    const row = document.createElement("div");
    row.className = "dial";
    const label = row.appendChild(document.createElement("label"));
    label.textContent = dial.name;
    label.htmlFor = `${box.dataset.part}-${dial.name}`;
    const input = row.appendChild(document.createElement("input"));
    Object.assign(input, { type: "range", id: label.htmlFor, min: 0, max: 1, step: 0.01 });
    input.dataset.dial = dial.name;
    row.appendChild(document.createElement("output")).htmlFor = input.id;
    input.addEventListener("input", () => {
      positions[dial.name] = Number(input.value);
      moved();
    });
    return row;
  }));
}

function followDials(box = byPart("dials"), positions = state.dials) {
  for (const input of box.querySelectorAll("[data-dial]")) {
    const position = positions[input.dataset.dial];
    if (Number(input.value) !== position) input.value = position;
    input.nextElementSibling.textContent = number(position, 2);
    input.setAttribute("aria-valuetext", number(position, 2));
  }
}

// Pictures: chosen, dropped, from the command line, or from before the page was loaded again.
// They are turned to in the order of the wishes: who is late is offered, but not turned to.
let wishes = 0;
let turned = 0;
async function turnTo(wish, facts) {
  if (wish < turned) return;
  turned = wish;
  await look(facts);
}

async function open(file) {
  wishes += 1;
  const wish = wishes;
  document.body.classList.add("opening");
  try {
    await furnished; // somebody may be quicker than the page
    if (file.size > state.model.max_bytes) {
      throw new Error(`${file.name} has more than ${number(state.model.max_bytes, 0)} bytes`);
    }
    const answer = await ask(`pictures?name=${encodeURIComponent(file.name)}`, file);
    const facts = await answer.json();
    for (const { id } of facts.closed) byPart("pictures").querySelector(`[value="${id}"]`)?.remove();
    offerPicture(facts);
    await turnTo(wish, facts);
  } catch (error) {
    failed(error);
  } finally {
    document.body.classList.remove("opening");
  }
}

function offerPicture(facts) {
  const choice = byPart("pictures");
  choice.append(new Option(facts.name, facts.id));
  choice.hidden = choice.options.length < 2;
}

async function look(facts) {
  stop();
  Object.assign(state, { picture: facts, exact: null, plain: null, words: "", others: {}, curve: null });
  byPart("pictures").value = facts.id;
  history.replaceState(null, "", `#${facts.id}`);
  document.title = `${facts.name} – vrcodec explore`;
  byPart("empty").hidden = true;
  byPart("work").hidden = false;
  byPart("modes").hidden = !state.model.styles;
  const origin = facts.file
    ? ["a .vrc file: beside it is what it shows, and moving a dial codes that again"] : [];
  const closed = (facts.closed ?? []).map((one) => one.name).join(", ");
  const room = closed ? [`closed to make room: ${closed}`] : [];
  byPart("notes").textContent = [
    `${facts.name}, ${facts.width}×${facts.height}`, ...origin, ...facts.notes, ...room,
  ].join("; ");
  byPart("notes").hidden = false;
  say("");
  stage.size(facts.width, facts.height);
  table();
  plot();
  tell({}, true);
  byPart("files").hidden = byPart("bought").hidden = byPart("legend").hidden = true;
  byPart("beside").value = "original";
  byPart("state").textContent = "";
  const right = show("right", here("original"), "original").catch(failed);
  await show("left", here("original"), "original");
  await right;
  if (facts === state.picture) await lookAgain();
}

// What the left side shows of a picture to begin with, in either mode.
async function lookAgain() {
  const { file } = state.picture;
  if (styling()) restyle();
  else if (file) await lookAtFile(file);
  else move();
}

async function lookAtFile(file) {
  const facts = unmeasured({ ...file });
  tell(facts, false);
  await take(facts, "the file that was opened", begin());
  byPart("state").textContent = state.words;
}

byPart("pictures").addEventListener("change", async (event) => {
  wishes += 1;
  const wish = wishes;
  try {
    await turnTo(wish, await (await ask(`pictures/${event.target.value}`)).json());
  } catch (error) {
    failed(error);
    if (state.picture) byPart("pictures").value = state.picture.id;
  }
});
function chooseBeside() {
  say("");
  beside().catch(failed);
}
byPart("beside").addEventListener("change", chooseBeside);
for (const input of document.querySelectorAll("[data-part=file]")) {
  input.addEventListener("change", async () => {
    const [file] = input.files;
    if (file) await open(file);
    input.value = "";
  });
}
document.addEventListener("dragover", (event) => {
  if (!event.dataTransfer.types.includes("Files")) return;
  event.preventDefault();
  document.body.classList.add("dropping");
});
document.addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) document.body.classList.remove("dropping");
});
document.addEventListener("drop", (event) => {
  const [file] = event.dataTransfer.files;
  document.body.classList.remove("dropping");
  if (!file) return;
  event.preventDefault();
  open(file);
});
document.addEventListener("paste", (event) => {
  const [file] = event.clipboardData.files;
  if (!file) return;
  event.preventDefault();
  open(file);
});

function fill(select, pairs) {
  select.append(...pairs.map(([value, title]) => new Option(title, value)));
}

const MEASURES = {
  size: "size in bytes", bpp: "bits per pixel", psnr: "PSNR in dB", "ms-ssim": "MS-SSIM",
  ssimulacra2: "SSIMULACRA2",
};

function furnish(model) {
  state.model = model;
  makeDials(byPart("dials"), model.dials, state.dials, move);
  fill(byPart("beside"), Object.entries(model.codecs).map(([name, title]) => [name, `${title}, same size`]));
  fill(byPart("measure"), model.targets.map((name) => [name, MEASURES[name]]));
  fill(byPart("level"), model.efforts.slice(1).map((effort) => [effort, effort]));
  byPart("level").value = Math.min(3, model.efforts.at(-1));
  byPart("efforts").hidden = model.efforts.length < 2;
  fill(byPart("metric"), model.metrics.filter((m) => m.name !== "ms_ssim").map((m) => [m.name, m.title]));
  for (const title of ["Codec", "Bytes", ...model.metrics.map((m) => m.title)]) {
    const head = byPart("heads").appendChild(document.createElement("th"));
    head.scope = "col";
    head.textContent = title;
  }
  for (const [name, title] of Object.entries(model.codecs)) {
    const button = byPart("codecs").appendChild(document.createElement("button"));
    button.type = "button";
    button.textContent = title;
    button.addEventListener("click", () => {
      byPart("beside").value = name;
      chooseBeside();
    });
  }
  byPart("limits").textContent = `At most ${number(model.max_pixels / 1e6, 1)} megapixels.`;
  byPart("model").textContent = `Weights ${model.weights}, ${model.runtime}`;
}

let furnished = null; // fulfilled when the page knows its model

async function start() {
  wishes += 1;
  const wish = wishes;
  furnished = ask("model").then((answer) => answer.json()).then(furnish);
  await furnished;
  flipByKey(new Map([[byPart("work"), stage]]));
  sayValues(byPart("plot"));
  new ResizeObserver(([{ target }]) => {
    byPart("work").style.setProperty("--frame", `${target.offsetHeight}px`);
  }).observe(byPart("frame"));
  for (const box of document.querySelectorAll(".scroll, figure")) sayMore(box);
  for (const id of new Set([...state.model.pictures, window.location.hash.slice(1)])) {
    if (id) await ask(`pictures/${id}`).then(async (answer) => offerPicture(await answer.json()), () => {});
  }
  const [first] = byPart("pictures").options;
  const wanted = [...byPart("pictures").options].find((one) => one.value === window.location.hash.slice(1));
  const chosen = wanted ?? first;
  if (chosen) await turnTo(wish, await (await ask(`pictures/${chosen.value}`)).json());
}
document.addEventListener("DOMContentLoaded", () => start().catch(failed));
