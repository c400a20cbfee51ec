"use strict";
// The report: cards of jobs, or a grid of them by content, style or an option; filters, and a job's
// own view. Names from outside enter the page as text alone, never as markup. The state of filters
// and the open job stand in the address.

const AT_ONCE = 90, NEWS_MS = 4000;
const MEASURES = {
  total: "total loss", content_loss: "content loss", style_loss: "style loss", tv: "TV loss",
  seconds: "seconds", steps: "steps",
};
const SORTS = {order: "in order", name: "by name", content: "by content", style: "by style",
  status: "by status", ...Object.fromEntries(Object.entries(MEASURES).map(([k, v]) => [k, `by ${v}`]))};
const NARROWING = ["search", "content", "style", "status", "least", "most"];
const STATUSES = {"": "any status", done: "done", failed: "failed"};
const FILTERS = {search: "", content: "", style: "", status: "", sort: "order", direction: "",
  measure: "total", least: "", most: "", rows: "", columns: ""};
const OPTION = "o.";  // begins what asks for an option's value, in the address
const MOST_OPTIONS = 6, MOST_CELLS = 2500;
const TERMS = {total: "var(--total)", content: "var(--content-line)", style: "var(--style-line)",
  tv: "var(--tv-line)"};

let data = {jobs: [], pictures: [], defaults: {}, run: null, live: false};
let matching = [], shown = 0, listed = null, opened = null, timer = 0;
let differing = [];  // names of the options in which jobs differ
const cards = new Map();
const end = new IntersectionObserver(seen => {
  if (seen.at(-1).isIntersecting && shown < matching.length) showMore();
}, {rootMargin: "1500px"});
const at = id => document.getElementById(id);

function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "style") for (const [key, css] of Object.entries(value)) element.style.setProperty(key, css);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value != null) element.setAttribute(name, value);
  }
  element.append(...children.flat().filter(child => child != null && child !== false));
  return element;
}

const number = value => value == null ? "–" : Math.abs(value) >= 1e5 || (value && Math.abs(value) < 1e-3)
  ? value.toExponential(2) : String(Number(value.toPrecision(4)));
const plural = (count, word) => `${count.toLocaleString("en")} ${word}${count === 1 ? "" : "s"}`;
function duration(seconds) {
  if (seconds == null) return "–";
  if (seconds < 60) return `${number(Number(seconds.toFixed(1)))} s`;
  const minutes = Math.floor(seconds / 60);
  return minutes < 60 ? `${minutes} min ${Math.round(seconds % 60)} s` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

// What is asked for, in the address.

function asked() {
  const given = new URLSearchParams(location.hash.slice(1));
  const wanted = {...FILTERS};
  for (const name of Object.keys(FILTERS)) if (given.has(name)) wanted[name] = given.get(name);
  if (!(wanted.sort in SORTS)) wanted.sort = "order";
  if (!(wanted.measure in MEASURES)) wanted.measure = "total";
  for (const name of ["rows", "columns"]) if (!axes().has(wanted[name])) wanted[name] = "";
  for (const name of differing) wanted[OPTION + name] = given.get(OPTION + name) || "";
  return {...wanted, job: given.get("job")};
}

function address(changes) {
  const given = new URLSearchParams(location.hash.slice(1));
  for (const [name, value] of Object.entries(changes)) {
    if (value == null || value === (FILTERS[name] ?? "")) given.delete(name); else given.set(name, value);
  }
  return `#${given}`;
}

function ask(changes) { history.replaceState(null, "", address(changes)); refresh(); }

// Filter and sort.

function measured(job, measure) {
  const losses = job.losses || {};
  return {content_loss: losses.content, style_loss: losses.style, seconds: job.seconds,
    steps: job.steps, total: losses.total, tv: losses.tv}[measure];
}

const pictureName = place => place == null || !data.pictures[place] ? "" : data.pictures[place].name;

function fits(job, wanted) {
  if (wanted.status && job.status !== wanted.status) return false;
  if (wanted.content && data.pictures[job.content]?.path !== wanted.content) return false;
  if (differing.some(name => wanted[OPTION + name] && saidOption(job, name) !== wanted[OPTION + name])) return false;
  if (wanted.style && !job.styles.some(place => data.pictures[place]?.path === wanted.style)) return false;
  const value = measured(job, wanted.measure);
  if (wanted.least !== "" && !(value >= Number(wanted.least))) return false;
  if (wanted.most !== "" && !(value <= Number(wanted.most))) return false;
  return !wanted.search || job.text.includes(wanted.search.toLowerCase());
}

function sorter(wanted) {
  const keys = {
    order: job => job.order, name: job => job.job.toLowerCase(), status: job => job.status,
    content: job => pictureName(job.content).toLowerCase(),
    style: job => job.styles.map(pictureName).join().toLowerCase(),
  };
  const key = keys[wanted.sort] || (job => measured(job, wanted.sort));
  const turned = wanted.direction ? -1 : 1;
  return (one, other) => {
    const [a, b] = [key(one), key(other)];
    if (a == null || b == null) return (a == null) - (b == null);  // what has no value comes last
    return turned * (a < b ? -1 : a > b ? 1 : one.order - other.order);
  };
}

// Options: those that differ tell jobs of a sweep apart.

const optionOf = (job, name) => name in (job.options || {}) ? job.options[name] : data.defaults[name];
const saidOption = (job, name) => said(optionOf(job, name));
const byValue = (one, other) => (Number(one) - Number(other)) || one.localeCompare(other);

function findDiffering() {
  const names = new Set(data.jobs.flatMap(job => Object.keys(job.options || {})));
  return [...names].filter(name => new Set(data.jobs.map(job => saidOption(job, name))).size > 1).sort();
}

const sweepText = job => differing.slice(0, MOST_OPTIONS).map(name => `${name} ${saidOption(job, name)}`).join(", ");

const stylesText = job => job.styles.map(pictureName).join(" + ");

// What rows and columns of a grid may be: of a job the text that says in which it stands.
function axes() {
  return new Map([
    ["content", job => pictureName(job.content)], ["style", stylesText],
    ["pair", job => `${pictureName(job.content)}, ${stylesText(job)}`],
    ...differing.map(name => [name, job => saidOption(job, name)]),
  ]);
}

// The cards, or the grid.

function refresh() {
  const wanted = asked(), list = JSON.stringify({...wanted, job: null});
  if (list !== listed) showGrid(wanted);
  listed = list;
  showJob(wanted.job);
}

function showGrid(wanted) {
  matching = data.jobs.filter(job => fits(job, wanted)).sort(sorter(wanted));
  shown = 0;
  at("grid").replaceChildren();
  const isGrid = Boolean(wanted.rows && wanted.columns);
  at("grid").hidden = isGrid;
  at("matrix").hidden = !isGrid;
  at("matrix").replaceChildren(...(isGrid ? [matrix(axes().get(wanted.rows), axes().get(wanted.columns), wanted)] : []));
  if (!isGrid) showMore();
  at("count").value = matching.length === data.jobs.length
    ? plural(data.jobs.length, "job") : `${matching.length.toLocaleString("en")} of ${plural(data.jobs.length, "job")}`;
  at("empty").hidden = matching.length > 0 || data.jobs.length === 0;
  showFilters(wanted);
}

function matrix(row, column, wanted) {
  const jobs = matching.slice(0, MOST_CELLS);
  const rows = [...new Set(jobs.map(row))].sort(byValue), columns = [...new Set(jobs.map(column))].sort(byValue);
  const cells = new Map();
  for (const job of jobs) {
    const place = JSON.stringify([row(job), column(job)]);
    cells.set(place, [...(cells.get(place) || []), job]);
  }
  const head = text => text || "–";
  return make("table", {},
    make("thead", {}, make("tr", {}, make("td", {}, `${wanted.rows} by ${wanted.columns}`), columns.map(text => make("th", {scope: "col"}, head(text))))),
    make("tbody", {}, rows.map(one => make("tr", {}, make("th", {scope: "row"}, head(one)),
      columns.map(other => make("td", {}, (cells.get(JSON.stringify([one, other])) || []).map(newCard)))))));
}

function showMore(upTo = shown + AT_ONCE) {
  const next = matching.slice(shown, upTo);
  at("grid").append(...next.map(cardOf));
  shown += next.length;
  end.disconnect();
  end.observe(at("more"));  // tells at once if there is still room
}

function image(shot, alt, attributes = {}) {
  return shot ? make("img", {src: shot[0], width: shot[1], height: shot[2], alt, loading: "lazy", decoding: "async", ...attributes}) : null;
}

const ratio = shot => shot ? Math.min(Math.max(shot[1] / shot[2], .55), 2.8) : 1.25;

function cardOf(job) {
  const known = cards.get(job.key);
  if (known && known.state === job.state) return known.card;
  const card = newCard(job);
  cards.set(job.key, {state: job.state, card});
  return card;
}

function newCard(job) {
  const content = data.pictures[job.content], failed = job.status === "failed";
  const shot = job.thumb || content?.thumb;
  const small = [content, ...job.styles.slice(0, 2).map(place => data.pictures[place])];
  const values = failed ? (job.error?.kind || "failed") : `loss ${number(job.losses?.total)}, ${duration(job.seconds)}`;
  const told = [job.unasked && "no longer asked for", sweepText(job), values].filter(Boolean);
  return make("a", {class: `card ${failed ? "failed" : ""} ${job.unasked ? "unasked" : ""}`, href: address({job: job.key}), title: job.job,
    "data-job": job.key, style: {"--ratio": ratio(shot)}, onclick: event => follow(event, job)},
  make("div", {class: "frame"}, image(shot, ""), failed && make("div", {class: "why"}, job.error?.message || "failed")),
  make("div", {class: "caption"}, small.map(one => one && image(one.thumb, "")),
    make("div", {}, make("b", {}, job.job), told.map(text => make("small", {}, text)))));
}

function follow(event, job) {
  if (event.metaKey || event.ctrlKey || event.shiftKey || event.button) return;
  event.preventDefault();
  location.hash = address({job: job.key});
}

// The bar.

function fill(select, options, value) {
  const text = JSON.stringify(options);
  if (select.dataset.options !== text) {
    select.dataset.options = text;
    select.replaceChildren(...options.map(([key, label]) => make("option", {value: key}, label)));
  }
  select.value = value;
}

function pictureOptions(places, any) {
  const listed = [...new Set(places)].filter(place => place != null).map(place => data.pictures[place]);
  listed.sort((one, other) => one.name.localeCompare(other.name));
  return [["", any], ...listed.map(one => [one.path, one.name])];
}

function showFilters(wanted) {
  fill(at("content"), pictureOptions(data.jobs.map(job => job.content), "every content"), wanted.content);
  fill(at("style"), pictureOptions(data.jobs.flatMap(job => job.styles), "every style"), wanted.style);
  fill(at("status"), Object.entries(STATUSES), wanted.status);
  showOptionFilters(wanted);
  const places = [["", "–"], ...[...axes().keys()].map(name => [name, name])];
  for (const name of ["rows", "columns"]) fill(at(name), places, wanted[name]);
  fill(at("sort"), Object.entries(SORTS), wanted.sort);
  fill(at("measure"), Object.entries(MEASURES), wanted.measure);
  for (const name of ["search", "least", "most"]) if (at(name).value !== wanted[name]) at(name).value = wanted[name];
  at("direction").textContent = wanted.direction ? "↓" : "↑";
  at("direction").title = wanted.direction ? "largest first" : "smallest first";
  const narrowed = [...NARROWING, ...differing.map(name => OPTION + name)].filter(name => wanted[name]);
  for (const name of ["search", "content", "style", "status"]) at(name).classList.toggle("set", narrowed.includes(name));
  at("range").firstElementChild.classList.toggle("set", Boolean(wanted.least || wanted.most));
  at("clear").hidden = !narrowed.length;
}

function showOptionFilters(wanted) {
  const names = differing.slice(0, MOST_OPTIONS), text = JSON.stringify(names);
  if (at("options").dataset.names !== text) {
    at("options").dataset.names = text;
    at("options").replaceChildren(...names.map(name => make("select", {id: OPTION + name, "aria-label": name,
      onchange: event => ask({[OPTION + name]: event.target.value})})));
  }
  for (const name of names) {
    const values = [...new Set(data.jobs.map(job => saidOption(job, name)))].sort(byValue);
    fill(at(OPTION + name), [["", `every ${name}`], ...values.map(value => [value, `${name} ${value}`])], wanted[OPTION + name]);
    at(OPTION + name).classList.toggle("set", Boolean(wanted[OPTION + name]));
  }
}

function clearFilters() {
  ask(Object.fromEntries([...NARROWING, ...differing.map(name => OPTION + name)].map(name => [name, null])));
}

// The head.

function showHead() {
  const failed = data.jobs.filter(job => job.status === "failed").length;
  const done = data.jobs.length - failed, run = data.run, where = run?.devices;
  document.title = `${data.title} · nst_jax`;
  at("title").textContent = data.title;
  at("live").hidden = !data.live;
  const text = [make("b", {}, plural(done, "picture"))];
  if (failed) text.push(", ", make("b", {}, `${failed} failed`));
  if (where) text.push(` on ${where.count > 1 ? `${where.count} × ` : ""}${where.kind || where.platform}`);
  if (run?.options) text.push(`, ${run.options.size} px, network ${String(run.options.weights).split(/[\\/]/).pop()}`);
  at("summary").replaceChildren(...text, ".");
  at("run").replaceChildren(...(run ? runParts(run) : []));
}

function runParts(run) {
  const sum = run.summary || {};
  const figures = {
    "image-steps a second": number(sum.image_steps_per_second), "pictures in the last run": number(sum.done),
    "in steps": duration(sum.step_seconds), "in all": duration(sum.seconds),
  };
  if (sum.device_idle_share !== undefined) figures["device idle"] = `${number(100 * sum.device_idle_share)} %`;
  return [
    make("dl", {class: "figures"}, Object.entries(figures).map(([name, value]) => make("div", {}, make("dt", {}, name), make("dd", {}, value)))),
    phases(run.phases || {}, sum.seconds || 0),
    make("details", {class: "fold"}, make("summary", {}, "About this run"), pairs(aboutRun(run))),
  ];
}

function phases(seconds, whole) {
  const names = {steps: ["steps", "var(--style-line)"], targets: ["targets", "var(--content-line)"],
    compilation: ["compilation", "var(--tv-line)"]};
  const parts = Object.keys(names).map(key => [...names[key], seconds[key] || 0]);
  parts.push(["everything else", "var(--line)", Math.max(0, whole - parts.reduce((sum, part) => sum + part[2], 0))]);
  return make("div", {class: "phases"},
    make("div", {class: "strip"}, parts.filter(part => part[2] > 0).map(([, tone, value]) => make("i", {style: {background: tone, flex: `${value} 0 0`}}))),
    make("ul", {}, parts.map(([name, tone, value]) => make("li", {style: {"--tone": tone}}, `${name} ${duration(value)}`))));
}

function aboutRun(run) {
  const programs = Object.entries(run.compiled || {}).map(([name, seconds]) =>
    [`${(run.loaded || []).includes(name) ? "loaded" : "compiled"} in ${duration(seconds)}`, name]);
  return [["weights", run.weights?.source], ...driving(run.summary || {}), ...Object.entries(run.versions || {}),
    ...Object.entries(run.options || {}).map(([name, value]) => [name, said(value)]), ...programs];
}

function driving(sum) {
  if (sum.driving_seconds === undefined) return [];
  const waited = Object.entries(sum.waiting_seconds || {}).map(([what, seconds]) => `${duration(seconds)} for ${what === "device" ? "the device" : what}`);
  return [["thread that drives the device", `${duration(sum.driving_seconds)} of work${waited.length ? `; it waited ${waited.join(", ")}` : ""}`]];
}

const said = value => Array.isArray(value) ? value.map(said).join(", ") || "equal or by default"
  : value !== null && typeof value === "object" ? JSON.stringify(value) : String(value);
const pairs = rows => make("dl", {class: "pairs"}, rows.flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, value ?? "–")]));

// A job's own view.

function showJob(name) {
  const job = name == null ? null : data.jobs.find(one => one.key === name);
  const dialog = at("job");
  if (!job) { opened = null; if (dialog.open) dialog.close(); return; }
  const state = `${job.job} ${job.state} ${matching.length}`;
  if (opened === state && dialog.open) return;
  opened = state;
  dialog.replaceChildren(jobHead(job), jobBody(job));
  if (!dialog.open) dialog.showModal();
  dialog.scrollTop = 0;
  dialog.querySelector(".wipe input, .close")?.focus({preventScroll: true});
}

function jobHead(job) {
  const place = matching.indexOf(job);
  const step = (by, sign, label) => make("button", {type: "button", "aria-label": label, title: label, class: by < 0 ? "previous" : "next",
    disabled: !matching[place + by] || place < 0, onclick: () => move(job, by)}, sign);
  return make("header", {class: "jobhead"}, make("h2", {id: "job-title", title: job.job}, job.job),
    step(-1, "←", "Previous job"), step(1, "→", "Next job"),
    make("button", {type: "button", class: "close", "aria-label": "Close", title: "Close", onclick: closeJob}, "✕"));
}

function move(job, by) {
  const next = matching[matching.indexOf(job) + by];
  if (matching.includes(job) && next) ask({job: next.key});
}

function closeJob() {
  const name = asked().job;
  ask({job: null});
  const place = matching.findIndex(job => job.key === name);
  if (place >= shown) showMore(place + 1);
  cards.get(name)?.card.focus();
}

function jobBody(job) {
  const content = data.pictures[job.content], styles = job.styles.map(place => data.pictures[place]).filter(Boolean);
  const result = job.view && {name: job.job, view: job.view, file: job.file};
  const shots = [["content", content], ...styles.map(style => ["style", style]), ["result", result]];
  return make("div", {class: "jobbody"},
    make("div", {}, make("div", {class: "side"}, shots.map(([role, one]) => one && figure(role, one))),
      content?.view && result && wipe(content.view, result.view), job.previews?.length && previews(job)),
    make("aside", {class: "facts"}, job.error && fault(job.error), curveSection(job), numbers(job), optionsOf(job)));
}

function previews(job) {
  return make("section", {class: "previews"}, make("h3", {}, "On the way"), make("div", {class: "side"}, job.previews.map(([step, file]) =>
    make("figure", {style: {"--ratio": ratio(job.thumb)}}, make("a", {href: file, target: "_blank", rel: "noopener"},
      make("img", {src: file, alt: `after step ${step}`, loading: "lazy"})), make("figcaption", {}, `after step ${step}`)))));
}

function figure(role, one) {
  const shot = image(one.view, `${role}: ${one.name}`, {loading: "eager"}) || make("div", {class: "frame", style: {"--ratio": 1.25}});
  return make("figure", {style: {"--ratio": ratio(one.view)}},
    one.file ? make("a", {href: one.file, target: "_blank", rel: "noopener"}, shot) : shot,
    make("figcaption", {title: one.path || one.name}, make("b", {}, role), ` ${one.name}`));
}

function wipe(below, above) {
  const box = make("div", {class: "wipe", style: {"--ratio": above[1] / above[2]}},
    image(below, "content", {loading: "eager"}), image(above, "result", {loading: "eager", class: "over"}),
    make("span", {class: "left"}, "content"), make("span", {class: "right"}, "result"),
    make("input", {type: "range", min: 0, max: 100, step: 0.5, value: 50, "aria-label": "Wipe between content and result",
      oninput: event => box.style.setProperty("--cut", `${event.target.value}%`)}));
  return box;
}

function fault(error) {
  return make("section", {class: "fault", role: "alert"}, make("h3", {}, `Failed: ${error.kind || "error"}`),
    make("p", {}, error.message || ""), error.remedy && make("p", {}, make("b", {}, "What helps: "), error.remedy),
    error.attempt > 1 && make("p", {class: "note"}, `attempt ${error.attempt}`));
}

function numbers(job) {
  const losses = job.losses || {};
  return make("section", {}, make("h3", {}, "Numbers"), pairs([
    ...Object.keys(TERMS).filter(term => term in losses).map(term => [term === "total" ? "total loss" : `${term}, unweighted`, number(losses[term])]),
    ["steps", number(job.steps)], ["seconds", `${number(job.seconds)}, and ${number(job.compile_seconds)} in compilations`],
    ...(job.sha256 ? [["sha256", `${job.sha256.slice(0, 16)}…`]] : [])]));
}

function optionsOf(job) {
  const own = Object.entries(job.options || {});
  const all = {...data.run?.options, ...data.defaults, ...job.options};
  return make("section", {}, make("h3", {}, "Options"),
    own.length ? make("ul", {class: "chips"}, own.map(([name, value]) => make("li", {}, `${name} `, make("b", {}, said(value)))))
      : make("p", {class: "note"}, "Everything at its default."),
    make("details", {class: "fold"}, make("summary", {}, "All options"), pairs(Object.entries(all).map(([name, value]) => [name, said(value)]))));
}

// Loss curves: value by step, on a logarithmic scale that ends three powers of ten under the top. The
// parts have their weights, so that they add up to the total, where that is how it was made.

const FLOOR = 1e-3, MISFIT = 0.02;

function weigh(job) {
  const option = name => optionOf(job, name), curve = job.curve || [];
  const [content, style, tv] = ["content_weight", "style_weight", "tv_weight"].map(option);
  const weighed = curve.map(([step, total, c, s, t]) => {
    const parts = [content * c, style * s];
    const rest = total - parts[0] - parts[1];  // a sum over pixels has another unit
    return [step, total, ...parts, option("tv_normalization") === "sum" ? Math.max(rest, 0) : tv * t];
  });
  const adds = ([, total, ...parts]) => Math.abs(total - parts.reduce((sum, part) => sum + part, 0)) <= MISFIT * Math.abs(total);
  return weighed.every(adds) ? {curve: weighed, title: "Loss, its parts weighted"} : {curve, title: "Loss, its parts unweighted"};
}

function curveSection(job) {
  const {curve, title} = weigh(job);
  if (curve.length < 2) return null;
  const values = curve.flatMap(point => point.slice(1)).filter(value => value > 0);
  if (!values.length) return null;
  const least = FLOOR * Math.max(...curve.map(point => point[1] || 0));
  return make("section", {}, make("h3", {}, title),
    ...chart(curve, values.map(value => Math.max(value, least)), levelEnds(job)));
}

// Steps after which a level was over; the last one's end is the chart's.
function levelEnds(job) {
  return (job.level_ends || []).slice(0, -1);
}

function chart(curve, values, ends) {
  const [width, height, left, bottom] = [380, 210, 44, 22];
  const low = Math.floor(Math.log10(Math.min(...values))), high = Math.max(low + 1, Math.ceil(Math.log10(Math.max(...values))));
  const last = curve.at(-1)[0], first = curve[0][0];
  const x = step => left + (width - left) * (step - first) / Math.max(1, last - first);
  const y = value => Math.min(height - bottom, (height - bottom) * (high - Math.log10(value)) / (high - low));
  const svg = shape("svg", {viewBox: `-2 -8 ${width + 8} ${height + 10}`, class: "chart", role: "img", "aria-label": "Loss by step"});
  const every = Math.ceil((high - low) / 6);
  for (let power = low; power <= high; power += every) {
    svg.append(shape("line", {class: "grid-line", x1: left, x2: width, y1: y(10 ** power), y2: y(10 ** power)}),
      shape("text", {x: left - 8, y: y(10 ** power) + 4, "text-anchor": "end"}, Math.abs(power) > 3 ? `1e${power}` : String(Number(10 ** power))));
  }
  for (const step of [first, last]) svg.append(shape("text", {x: x(step), y: height - 4, "text-anchor": step === last ? "end" : "start"}, `step ${step}`));
  for (const step of ends) if (step > first && step < last) {
    svg.append(shape("line", {class: "level", x1: x(step), x2: x(step), y1: 0, y2: height - bottom}, ""));
    svg.lastChild.append(shape("title", {}, `a level ends after step ${step}`));
  }
  Object.values(TERMS).forEach((tone, term) => svg.append(shape("path", {d: path(curve, term + 1, x, y), style: `stroke: ${tone}`})));
  const line = shape("line", {class: "at", y1: 0, y2: height - bottom, x1: x(last), x2: x(last)});
  svg.append(line);
  const legend = make("ul", {class: "legend"});
  const tell = point => {
    line.setAttribute("x1", x(point[0])); line.setAttribute("x2", x(point[0]));
    legend.replaceChildren(...Object.entries(TERMS).map(([term, tone], place) =>
      make("li", {}, make("i", {style: {"--tone": tone}}), term, make("span", {}, number(point[place + 1])))),
    make("li", {}, make("span", {}, `after step ${point[0]}`)));
  };
  tell(curve.at(-1));
  svg.addEventListener("pointermove", event => {
    const box = svg.getBoundingClientRect(), place = (event.clientX - box.left) / box.width * (width + 8) - 2;
    tell(curve.reduce((near, point) => Math.abs(x(point[0]) - place) < Math.abs(x(near[0]) - place) ? point : near));
  });
  svg.addEventListener("pointerleave", () => tell(curve.at(-1)));
  return [svg, legend];
}

function path(curve, term, x, y) {
  let pen = "M";
  return curve.filter(point => point[term] > 0).map(point => {
    const text = `${pen}${x(point[0]).toFixed(1)} ${y(point[term]).toFixed(1)}`;
    pen = "L";
    return text;
  }).join("");
}

function shape(tag, attributes, text) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  if (text != null) element.textContent = text;
  return element;
}

// Keys.

function beside(card, key) {
  const all = [...at("grid").children], place = all.indexOf(card);
  if (key === "ArrowRight") return all[place + 1];
  if (key === "ArrowLeft") return all[place - 1];
  const box = card.getBoundingClientRect(), middle = box.left + box.width / 2, down = key === "ArrowDown";
  const row = all.filter(one => down ? one.getBoundingClientRect().top > box.bottom - 1 : one.getBoundingClientRect().bottom < box.top + 1);
  if (!row.length) return null;
  const top = (down ? row[0] : row.at(-1)).getBoundingClientRect().top;
  const off = one => { const its = one.getBoundingClientRect(); return Math.abs(its.left + its.width / 2 - middle); };
  return row.filter(one => Math.abs(one.getBoundingClientRect().top - top) < 2).reduce((near, one) => off(one) < off(near) ? one : near);
}

function onKey(event) {
  const field = event.target.closest("input, select, textarea"), arrow = event.key.startsWith("Arrow");
  if (event.altKey || event.ctrlKey || event.metaKey) return;
  if (at("job").open) {
    const by = {ArrowLeft: -1, ArrowRight: 1}[event.key];
    if (by && !field) move(data.jobs.find(job => job.key === asked().job), by);
  } else if (event.key === "/" && !field) {
    event.preventDefault();
    at("search").focus();
  } else if (arrow && !field) {
    const card = event.target.closest(".card"), next = card ? beside(card, event.key) : at("grid").firstElementChild;
    if (!next) return;
    event.preventDefault();
    next.focus();
    next.scrollIntoView({block: "nearest"});
    if (next === at("grid").lastElementChild) showMore();
  }
}

// News.

function showReport(news) {
  data = news;
  data.jobs.forEach((job, order) => {
    job.order = order;
    job.key = job.job.toWellFormed();  // as an address can hold it
    job.state = `${job.unasked} ${job.previews?.length} ${job.status} ${job.sha256} ${job.thumb?.[0]} ${job.error?.message}`;
    job.text = [job.job, pictureName(job.content), ...job.styles.map(pictureName), job.error?.message || ""].join("\n").toLowerCase();
  });
  differing = findDiffering();
  const reached = shown, focused = document.activeElement?.dataset.job;
  listed = null;
  showHead();
  refresh();
  if (reached > shown && !at("grid").hidden) showMore(reached);
  if (focused) cards.get(focused)?.card.focus({preventScroll: true});
  clearTimeout(timer);
  if (data.live) timer = setTimeout(askForNews, NEWS_MS);
}

function askForNews() {
  const script = make("script", {src: `data.js?${Date.now()}`, onload: () => script.remove(),
    onerror: () => { script.remove(); timer = setTimeout(askForNews, NEWS_MS); }});
  document.head.append(script);
}

for (const name of ["content", "style", "status", "sort", "measure", "rows", "columns"]) at(name).addEventListener("change", event => ask({[name]: event.target.value}));
for (const name of ["search", "least", "most"]) at(name).addEventListener("input", event => ask({[name]: event.target.value}));
at("direction").addEventListener("click", () => ask({direction: asked().direction ? null : "down"}));
for (const name of ["clear", "clear-too"]) at(name).addEventListener("click", clearFilters);
at("bar").addEventListener("submit", event => event.preventDefault());
at("job").addEventListener("close", () => { if (asked().job != null) closeJob(); });
addEventListener("hashchange", refresh);
addEventListener("keydown", onKey);
