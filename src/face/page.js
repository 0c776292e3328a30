// Owns how a document of /events is shown. What is null is not known, and left out.
"use strict";
const get = (id) => document.getElementById(id);
const LOOKS = 600;
const grouped = new Intl.NumberFormat("en");
const short = new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 3 });

// What is selected stays as it is until it is not selected any more.
function put(node, text) {
  if (node.textContent === text) return;
  const selection = getSelection();
  const held = selection.rangeCount && !selection.isCollapsed && selection.getRangeAt(0).intersectsNode(node);
  if (!held) node.textContent = text;
}

function span(seconds) {
  const [s, two] = [Math.floor(seconds), (a, x, b, y) => `${a} ${x}` + (b ? ` ${b} ${y}` : "")];
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  if (s < 60) return `${s} s`;
  if (s < 3600) return two(Math.floor(s / 60), "min", s % 60, "s");
  if (s < 86400) return two(Math.floor(s / 3600), "h", Math.floor(s / 60) % 60, "min");
  return two(Math.floor(s / 86400), "d", Math.floor(s / 3600) % 24, "h");
}

function bytes(count) {
  const units = ["", "KiB", "MiB", "GiB", "TiB"];
  let at = 0;
  for (; count >= 1024 && at < 4; at++) count /= 1024;
  return at ? `${count.toFixed(1)} ${units[at]}` : some(count, "byte");
}

// Times that are milliseconds since 1970, from 2001 to 2099, are shown as such.
const isClock = (time) => time !== null && time.length === 13 && time >= "1000000000000" && time < "4102444800000";
const clock = (ms) => new Date(ms).toISOString().replace("T", " ");
const when = (time) => (time === null ? null : isClock(time) ? clock(Number(time)) : time);
const hour = (ms) => `${new Date(ms).toISOString().slice(11, 19)}Z`;
const some = (number, one, more = `${one}s`) => `${grouped.format(number)} ${number === 1 ? one : more}`;
const count = (number, one, more) => (number ? some(number, one, more) : null);
const size = (number, what) => (number ? `${bytes(number)} ${what}` : null);

// The times in its words, as the page shows times.
function words(p) {
  if (!p.metrics || ![p.input.at, p.upper.at].some(isClock)) return p.why ?? "";
  return (p.why ?? "").replace(/(^|[ [(])(\d{13})(?=[ ,;:)]|$)(?! byte)/g, (_, before, time) => before + when(time));
}

// The lines of a place of the loop: the first is what it is at.
function lines(place, texts) {
  const shown = texts.filter((text) => text !== null && text !== undefined);
  const nodes = [...place.querySelectorAll("p")];
  while (nodes.length < shown.length) {
    const node = place.appendChild(document.createElement("p"));
    if (!nodes.length) node.className = "at";
    nodes.push(node);
  }
  nodes.forEach((node, at) => {
    node.hidden = at >= shown.length;
    if (!node.hidden) put(node, shown[at]);
  });
}

function fact(list, name, value, bad) {
  let row = [...list.children].find((row) => row.firstChild.textContent === name);
  if (!row) {
    row = list.appendChild(document.createElement("div"));
    row.append(document.createElement("dt"), document.createElement("dd"));
    row.firstChild.textContent = name;
  }
  row.hidden = value === null || value === undefined;
  row.className = bad ? "bad" : "";
  if (!row.hidden) put(row.lastChild, value);
}

function chart(figure, rates, which) {
  const values = rates.map((rate) => rate[which]);
  const most = Math.max(...values, 0);
  const x = (at) => LOOKS - values.length + at + 1;
  const y = (value) => 98 - (most ? (value / most) * 92 : 0);
  const line = values.map((value, at) => `${at ? "L" : "M"}${x(at)} ${y(value).toFixed(1)}`).join("");
  figure.querySelector(".line").setAttribute("d", line);
  figure.querySelector(".area").setAttribute("d", values.length ? `${line}V100H${x(0)}Z` : "");
  const last = values.length ? short.format(values[values.length - 1]) : "";
  put(figure.querySelector("b"), last);
  put(figure.querySelector(".most"), values.length ? `at most ${short.format(most)}` : "");
  figure.querySelector("svg").setAttribute("aria-label", `now ${last}, at most ${short.format(most)} in ten minutes`);
}

function loop(node, p, all, rates) {
  const [m, now] = [p.metrics, all.now_ms];
  const recent = rates.slice(-30);
  const pace = recent.reduce((sum, rate) => sum + rate[0], 0) / recent.length;
  const place = (name) => node.querySelector(`.loop .${name}`);
  const stands = (f) => (f.stands === null ? null : f.moved ? `moved ${span(f.stands)} ago` : `has stood for ${span(f.stands)}`);
  const ago = (time) => (isClock(time) ? `${span(Math.max(0, (now - Number(time)) / 1000))} behind the clock` : null);
  const [last, progress] = [p.rates[p.rates.length - 1], p.progress];
  const rate = (at, what) => (last ? `${short.format(last[at])} ${what}/s` : null);
  const percent = progress && progress.of ? ` (${Math.floor((100 * progress.at) / progress.of)} %)` : "";
  const behind = m.source_lag_seconds;
  lines(place("source"), [
    progress ? `${grouped.format(progress.at)}${progress.of ? ` of ${grouped.format(progress.of)}` : ""}${percent}` : count(m.source_units_total, "unit"),
    progress ? count(progress.rows, "row read", "rows read") : null,
    progress && progress.eta !== null ? `done in ${span(progress.eta)}` : null,
    m.source_lag_rows === undefined ? null : `${some(m.source_lag_rows, "row")} behind`,
    m.source_lag_bytes === undefined ? null : `${bytes(m.source_lag_bytes)} behind`,
    behind === undefined ? null : `${span(behind)} behind`,
    m.source_staged_partitions ? `${some(m.source_staged_rows, "row")} staged, for ${span(m.source_staged_oldest_seconds)}` : null,
    p.copy ? `copies for ${span(p.copy.seconds)}${p.copy.rows ? `, ${some(p.copy.rows, "row waits", "rows wait")}` : ""}` : null,
    p.copy && pace > 0 ? `${short.format(pace)} rows/s${m.source_lag_rows ? `, done in ${span(m.source_lag_rows / pace)}` : ""}` : null,
    count(m.source_attempts_without_progress, "attempt without progress", "attempts without progress"),
  ]);
  lines(place("input"), [when(p.input.at), ago(p.input.at), stands(p.input), rate(0, "rows"), count(m.source_unbound_units, "unit waits for a time", "units wait for a time")]);
  lines(place("stash"), [
    some(m.stash_rows, "row waits", "rows wait"),
    p.least === null ? null : `least time ${when(p.least)}`,
    p.least === null ? null : ago(p.least),
    size(m.stash_bytes, "in memory"), size(m.spill_bytes, "spilled"),
    count(m.state_cold_waiting, "read of cold rows", "reads of cold rows"),
  ]);
  const append = p.append && `appends [${when(p.append.lower)}, ${when(p.append.upper)}) for ${span(p.append.seconds)}`;
  lines(place("output"), [when(p.output.at), ago(p.output.at), stands(p.output), size(m.inflight_bytes, "in flight"), size(m.overlay_bytes, "ahead"), append]);
  lines(place("shard"), [when(p.upper.at), ago(p.upper.at), stands(p.upper), rate(1, "commits"), p.sealed_at && `sealed at ${when(p.sealed_at)}`]);
  const left = m.parts_found_total - m.parts_read_total;
  lines(place("feedback"), [
    when(p.feedback.at), ago(p.feedback.at), stands(p.feedback),
    m.hydrated ? null : `hydrates: ${m.parts_read_total} of ${some(m.parts_found_total, "part")} read`,
    !m.hydrated && p.hydration_eta !== null ? `done in ${span(p.hydration_eta)}` : null,
    m.hydrated && left > 0 ? count(left, "part to read", "parts to read") : null,
  ]);
  const stuck = p.stuck;
  for (const li of node.querySelectorAll(".loop li")) {
    const is = (name) => stuck !== null && li.classList.contains(name);
    // What holds it may be in the loop of another process, whose box is on another page.
    const [pinned, holds] = [is(stuck?.frontier), is(stuck?.holder) && stuck.of === null];
    li.classList.toggle("pinned", pinned);
    li.classList.toggle("holds", holds);
    const lasts = stuck?.seconds ? ` since ${hour(now - stuck.seconds * 1000)}, ${span(stuck.seconds)}` : "";
    const by = stuck && `, by the ${stuck.holder}${stuck.of === null ? "" : ` of ${stuck.of}`}`;
    const says = pinned ? `pinned${lasts}${holds ? ", and held here" : by}` : holds ? `holds the ${stuck.frontier}${lasts}` : "";
    let badge = li.querySelector(".badge");
    if (!badge) { badge = document.createElement("span"); badge.className = "badge"; li.firstElementChild.after(badge); }
    badge.hidden = !says;
    put(badge, says);
    li.classList.toggle("flows", !stuck && !!last && last[0] + last[1] > 0);
  }
}

function facts(node, p) {
  const [m, list] = [p.metrics, node.querySelector(".facts")];
  const of = (name) => (m[name] === undefined ? null : grouped.format(m[name]));
  const both = (rows, size) => (m[rows] || m[size] ? `${grouped.format(m[rows])}, ${bytes(m[size])}` : null);
  fact(list, "Below (already there)", of("rows_below_total"));
  fact(list, "Equal (emitted)", of("rows_equal_total"));
  fact(list, "Above (waited)", of("rows_above_total"));
  fact(list, "Superseded", of("rows_superseded_total"));
  fact(list, "Unchanged", of("rows_unchanged_total"));
  const one = p.error_key ? `, ${p.error_key}${m.error_keys > 1 ? " and others" : ""}` : "";
  fact(list, "Keys in error", of("error_keys") && of("error_keys") + one, m.error_keys > 0);
  fact(list, "Live rows", m.state_bytes ? `${grouped.format(m.state_rows)}, ${bytes(m.state_bytes)}` : of("state_rows"));
  fact(list, "Rows in memory", both("state_hot_rows", "state_hot_bytes"));
  fact(list, "Rows on disk alone", both("state_cold_rows", "state_cold_bytes"));
  fact(list, "Appends won", of("appends_won_total"));
  fact(list, "Appends lost", of("appends_lost_total"));
  fact(list, "Appends, outcome unknown", m.appends_unknown_total ? of("appends_unknown_total") : null, true);
  fact(list, "Last commit", p.upper.moved ? `${span(p.upper.stands)} ago` : null);
  fact(list, "Readable from", when(p.since));
  fact(list, "Writers", p.writers === null ? null : grouped.format(p.writers));
  fact(list, "Leases", p.leases === null ? null : grouped.format(p.leases));
  fact(list, "Written here", m.written_bytes_total ? bytes(m.written_bytes_total) : null);
  fact(list, "Read here", m.read_bytes_total ? bytes(m.read_bytes_total) : null);
}

const sections = new Map();

// One promotion is all standbys': each of them is named before it.
function promoted() {
  const standbys = [...sections.values()].filter(({ node }) => !node.querySelector(".promote").hidden);
  return standbys.map(({ node }) => node.querySelector("h1 .shard").textContent).join(", ");
}

function draw(all) {
  get("connecting").hidden = true;
  const seen = new Set();
  for (const p of all.pipelines) {
    const key = `${p.name}\n${p.shard}`;
    seen.add(key);
    if (!sections.has(key)) {
      const node = get("pipeline").content.firstElementChild.cloneNode(true);
      node.querySelector(".promote").addEventListener("click", () => ask(promoted()));
      get("pipelines").append(node);
      sections.set(key, { node, rates: [], tick: 0 });
    }
    const section = sections.get(key);
    const find = (name) => section.node.querySelector(name);
    const waits = p.waits || ["hydrating", "lagging"].includes(p.state);
    const state = find(".state");
    state.className = `state ${p.trouble ? "trouble" : waits ? "waits" : p.state === "finished" ? "over" : ""}`;
    find("header").classList.toggle("trouble", p.trouble);
    put(state, p.state);
    put(find(".feed"), [p.name, p.feed].filter(Boolean).join(": "));
    put(find("h1 .shard"), p.shard ?? "");
    find(".to").hidden = !p.shard || !find(".feed").textContent;
    const process = p.process && `process ${p.process.index} of ${p.process.of}`;
    put(find(".role"), [p.role, all.host, process, `version ${all.version}`, `up ${span(all.uptime)}`].filter(Boolean).join(" \u00b7 "));
    put(find(".why"), words(p));
    find(".promote").hidden = p.role !== "standby";
    for (const part of [".loop", ".charts", ".facts"]) find(part).hidden = !p.metrics;
    if (!p.metrics) continue;
    if (p.whole) section.rates = p.rates;
    else if (all.tick > section.tick) section.rates = [...section.rates, ...p.rates].slice(-LOOKS);
    section.tick = all.tick;
    loop(section.node, p, all, section.rates);
    chart(find(".rows"), section.rates, 0);
    chart(find(".commits"), section.rates, 1);
    facts(section.node, p);
  }
  for (const [key, { node }] of sections) if (!seen.has(key)) { node.remove(); sections.delete(key); }
  const worst = all.pipelines.find((p) => p.trouble) ?? all.pipelines[0];
  document.title = `${worst.state} ${worst.shard ?? ""} - differential-upsert`;
}

function ask(shard) {
  put(get("asked"), shard || "the shard");
  get("answer").textContent = "";
  get("promote").disabled = false;
  get("ask").showModal();
}
get("promote").addEventListener("click", async () => {
  get("promote").disabled = true;
  try {
    const answer = await fetch("/promote", { method: "POST", headers: { "Content-Type": "application/json" }, body: "{}" });
    if (answer.ok) return get("ask").close();
    get("answer").textContent = `It was refused: ${answer.status} ${await answer.text()}`;
  } catch (e) {
    get("answer").textContent = `It was not heard: ${e.message}`;
  }
  get("promote").disabled = false;
});

let [source, heard, tried, broken] = [null, Date.now(), 0, false];
function connect() {
  source?.close();
  tried = Date.now();
  source = new EventSource("/events");
  source.onerror = () => lost(true);
  source.onmessage = (event) => { heard = Date.now(); lost(false); draw(JSON.parse(event.data)); };
}
function lost(is) {
  broken = is;
  document.body.classList.toggle("lost", is);
  get("lost").hidden = !is;
  if (is) put(get("lost"), `no answer since ${hour(heard)}, ${span((Date.now() - heard) / 1000)}; trying again`);
}
setInterval(() => {
  const now = Date.now();
  if (broken || now - heard > 3000) lost(true);
  // The browser itself gives up where the answer is another than a stream, and waits for ever where one is cut in silence.
  if (broken && now - tried > (source.readyState === EventSource.CLOSED ? 1500 : 8000)) connect();
}, 1000);
get("connecting").hidden = false;
connect();
