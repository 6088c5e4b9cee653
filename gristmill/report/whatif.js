// What would be kept if limits were moved: the sliders of report.html. Data and their meaning: whatif.py.
// `estimate` and `command` are pure functions of (data, stops), `stops` being the stop of each slider by number.
"use strict";

const Z = 1.959964; // 97.5 % point of the normal distribution

/** The verdict on each sampled row: {verdict: number of a name, or -1 for kept, unsure: a later stage may take it}. */
function verdicts(data, stops, first) {
  const broken = (limit, row) => {
    const value = data.columns[limit.column][row];
    const bound = limit.slider < 0 ? limit.value : data.controls[limit.slider].stops[stops[limit.slider]];
    return value !== null && (limit.side === "least" ? value < bound : value > bound);
  };
  const fails = (rule, row) =>
    rule.missing >= 0 ? data.columns[rule.missing][row] === null
      : rule.cases.some(limits => limits.every(limit => broken(limit, row)));
  return data.fixed.map((fixed, row) => {
    const verdict = data.rules.findIndex(rule => fails(rule, row));
    if (verdict >= 0) return {verdict, unsure: false};
    if (first && fixed < 0 && first[row].verdict >= 0 && first[row].verdict < data.rules.length)
      return {verdict: -1, unsure: data.later};
    if (falls(data, stops, row)) return {verdict: data.near.name, unsure: false};
    const fell = first && first[row].verdict === data.near.name;
    return {verdict: fixed, unsure: Boolean(fell && data.last)};
  });
}

/** Whether a row is a near duplicate at the stop of that slider. */
function falls(data, stops, row) {
  const spans = data.near.spans[row];
  if (!spans || data.near.slider < 0) return false;
  const stop = stops[data.near.slider];
  return spans.filter(edge => edge <= stop).length % 2 === 1;
}

/** Wilson's interval for a share of `n` (https://doi.org/10.1080/01621459.1927.10502953). */
function wilson(count, n) {
  const p = count / n, middle = p + Z * Z / (2 * n), width = Z * Math.sqrt(p * (1 - p) / n + Z * Z / (4 * n * n));
  return [(middle - width) / (1 + Z * Z / n), (middle + width) / (1 + Z * Z / n)];
}

/**
 * A 95 % interval for (gained - lost) / n: the two Wilson intervals added by squares (Newcombe 1998, Statistics in
 * Medicine 17:873), with the correlation that two shares of one sample have, and narrowed for `n` out of `rows`.
 */
function interval(gained, lost, n, rows) {
  const g = gained / n, l = lost / n, [gl, gu] = wilson(gained, n), [ll, lu] = wilson(lost, n);
  const r = g < 1 && l < 1 ? Math.sqrt(g * l / ((1 - g) * (1 - l))) : 1;
  const both = (a, b) => Math.sqrt(a * a + b * b + 2 * r * a * b);
  const finite = rows > 1 ? Math.sqrt((rows - n) / (rows - 1)) : 0;
  return [g - l - finite * both(g - gl, lu - l), g - l + finite * both(gu - g, l - ll)];
}

function median(values) {
  const sorted = values.slice().sort((a, b) => a - b), half = sorted.length >> 1;
  if (!sorted.length) return null;
  return sorted.length % 2 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
}

/**
 * Rows kept with the sliders at these stops: {kept, low, high, exact, unsure, sources and dropped (rows of each, by
 * number), words (median of the kept, now and then)}. Exact with one slider moved or all rows in the sample, but for
 * near duplicates: a filter at another threshold would search anew.
 */
function estimate(data, stops) {
  const n = data.sample, scale = data.rows / n, base = data.controls.map(control => control.base);
  const now = verdicts(data, base, null), then = verdicts(data, stops, now);
  const sources = data.sources.map(() => 0), dropped = data.names.map(() => 0);
  let gained = 0, lost = 0, unsure = 0;
  then.forEach(({verdict, unsure: open}, row) => {
    const before = now[row].verdict;
    if (before >= 0) dropped[before] -= 1;
    if (verdict >= 0) dropped[verdict] += 1;
    sources[data.source[row]] += (verdict < 0) - (before < 0);
    gained += verdict < 0 && before >= 0;
    lost += verdict >= 0 && before < 0;
    unsure += verdict < 0 && open;
  });
  const moved = data.controls.map((_, number) => number).filter(number => stops[number] !== base[number]);
  let change = (gained - lost) * scale, [low, high] = interval(gained, lost, n, data.rows).map(d => d * data.rows);
  unsure *= scale;
  if (moved.length === 1) {
    const control = data.controls[moved[0]], stop = stops[moved[0]];
    low = high = change = control.back[stop] - control.lost[stop];
    unsure = control.later ? control.back[stop] : 0;
    if (control.kind === "near") dropped[data.near.name] = -change / scale; // no other rule's rows come or go
  }
  if (moved.length === 0 || n === data.rows) low = high = change;
  const within = kept => Math.round(Math.min(Math.max(kept, 0), data.rows));
  const words = verdict => median(data.words.filter((_, row) => verdict[row].verdict < 0));
  return {
    kept: within(data.kept + change), low: within(data.kept + low), high: within(data.kept + high),
    exact: low === high && !moved.includes(data.near.slider), unsure: Math.round(unsure), words: [words(now), words(then)],
    sources: sources.map((d, number) => Math.max(Math.round(data.sources[number].kept + d * scale), 0)),
    dropped: dropped.map((d, number) => Math.max(Math.round(data.dropped[number] + d * scale), 0)),
  };
}

const quoted = text => /^[\w\/.:=,@%+-]+$/.test(text) ? text : "'" + text.replaceAll("'", "'\\''") + "'";
const plain = text => /^[a-z][a-z0-9_]*$/.test(text) ? text : JSON.stringify(text);

/** The command that applies the stops, and the rules file it needs ("" where no rule was moved). */
function command(data, stops) {
  const flags = [], rules = new Map();
  data.controls.forEach((control, number) => {
    const value = control.stops[stops[number]];
    if (control.kind === "score") flags.push(`--min ${quoted(control.measure + "=" + value)}`);
    if (control.kind === "near") flags.push(`--near ${value}`);
    if (control.kind === "rule" && stops[number] !== control.base)
      rules.set(control.rule, [...(rules.get(control.rule) || []), control.measure === control.rule
        ? `${control.side}: ${value}` : `${plain(control.measure)}: ${value}`]);
  });
  if (rules.size) flags.push("--rules rules.yaml");
  const lines = [...rules].map(([name, limits]) => {
    const own = limits.every(limit => /^(least|most): /.test(limit));
    return `  - {name: ${plain(name)}, ${own ? limits.join(", ") : `limits: {${limits.join(", ")}}`}}`;
  });
  return {
    line: ["gristmill filter --from-run", quoted(data.run), ...flags, "-o NEW"].join(" "),
    rules: lines.length ? ["rules:", ...lines].join("\n") : "",
  };
}

const count = number => number.toLocaleString("en-US", {maximumFractionDigits: 6});

/** What the sliders say, in one sentence or two. */
function told(data, found) {
  const change = found.kept - data.kept;
  const many = change > 0 ? `${count(change)} more than now` : change < 0 ? `${count(-change)} fewer than now` : "as now";
  const spread = found.low === found.high ? "" : ` (95 %: ${count(found.low)} to ${count(found.high)})`;
  const open = found.unsure ? ` ${found.exact ? "" : "About "}${count(found.unsure)} of them were never looked at by the ` +
    "later stages, which may still take them." : "";
  return `${found.exact ? "" : "About "}${count(found.kept)} of ${count(data.rows)} rows kept${spread}, ${many}.${open}`;
}

/** Fill a list of rows (a number before, one after, a bar) that the page drew, hiding what is 0 both times. */
function fill(list, before, after, exact) {
  const most = Math.max(1, ...before, ...after);
  Array.from(list.children).forEach((item, number) => {
    const [old, now] = [before[number], after[number]];
    item.hidden = !old && !now;
    item.querySelector(".n").textContent = old === now ? count(now) : `${count(old)} → ${exact ? "" : "≈ "}${count(now)}`;
    const bars = item.querySelectorAll(".bar span");
    bars[0].style.width = `${100 * old / most}%`;
    bars[1].style.width = `${100 * now / most}%`;
  });
}

function start() {
  const data = JSON.parse(document.getElementById("whatif-data").textContent);
  const at = id => document.getElementById(id);
  const inputs = data.controls.map((_, number) => at(`slider-${number}`));
  const stop = (input, number) => input.type !== "checkbox" ? Number(input.value)
    : input.checked ? data.controls[number].base : 1 - data.controls[number].base;
  const show = () => {
    const stops = inputs.map(stop), found = estimate(data, stops), shell = command(data, stops);
    const all = data.sample === data.rows;
    inputs.forEach((input, number) => {
      const value = count(data.controls[number].stops[stops[number]]), was = data.controls[number];
      input.setAttribute("aria-valuetext", value);
      at(`value-${number}`).textContent = stops[number] === was.base ? value : `${value} (was ${count(was.stops[was.base])})`;
    });
    at("whatif-told").textContent = told(data, found);
    at("whatif-words").textContent = found.words.map(n => n === null ? "none" : count(n)).join(" → ");
    fill(at("whatif-sources"), data.sources.map(source => source.kept), found.sources, all);
    fill(at("whatif-dropped"), data.dropped, found.dropped, all);
    at("whatif-command").textContent = shell.line;
    at("whatif-rules").textContent = shell.rules;
    at("whatif-file").hidden = !shell.rules;
    if (data.near.slider >= 0) at("whatif-near").hidden = stops[data.near.slider] === data.controls[data.near.slider].base;
  };
  const reset = () => {
    inputs.forEach((input, number) => {
      input.checked = true;
      if (input.type !== "checkbox") input.value = data.controls[number].base;
    });
    show();
  };
  inputs.forEach(input => input.addEventListener("input", show));
  at("whatif-reset").addEventListener("click", reset);
  document.querySelectorAll("[data-script]").forEach(element => { element.hidden = false; });
  reset();
}

if (typeof document !== "undefined") start();
else module.exports = {command, estimate, falls, interval, told, verdicts, wilson};
