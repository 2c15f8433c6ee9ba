// The page of standpipe: takes what changes from /changes, and draws it once a frame at most.
// Users wrote much of what is shown: it reaches the page as text alone, never as markup.
"use strict";

const MINUTE_MS = 60_000;
const COLOURS = 5; // collections with a colour of their own; the rest share one more
const LISTED = 12; // rows of a table
const NAMES = { mul: "several languages", und: "not said", other: "other" };

const known = { minutes: new Map(), hours: new Map() };
const view = { range: 60, chosen: null, hour: null, first: null };

const $ = (id) => document.getElementById(id);
const number = new Intl.NumberFormat("en");
const clock = new Intl.DateTimeFormat("en", { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
const languages = new Intl.DisplayNames(["en"], { type: "language" });

function follow() {
  const source = new EventSource("/changes");
  source.onmessage = (event) => {
    const changed = take(JSON.parse(event.data));
    if (changed || $("state").className !== "live") schedule();
    $("state").className = "live";
  };
  source.onerror = () => {
    $("state").className = "lost";
    $("state").textContent = "no connection; trying again";
    // A browser gives up after an answer that is no stream.
    if (source.readyState === EventSource.CLOSED) setTimeout(follow, 3_000);
  };
}

// Returns whether there is something to draw.
function take(changes) {
  for (const kind of ["minutes", "hours"]) {
    for (const [start, value] of Object.entries(changes[kind])) known[kind].set(Date.parse(start), value);
  }
  const first = changes.since === null ? Infinity : Date.parse(changes.since);
  const isOlder = view.first !== first;
  view.first = first;
  for (const start of known.minutes.keys()) if (start < first) known.minutes.delete(start);
  while (known.hours.size > 24) known.hours.delete(Math.min(...known.hours.keys()));
  return isOlder || [changes.minutes, changes.hours].some((kind) => Object.keys(kind).length > 0);
}

let isScheduled = false;
function schedule() {
  if (isScheduled) return;
  isScheduled = true;
  requestAnimationFrame(() => {
    isScheduled = false;
    draw();
  });
}

function draw() {
  const starts = [...known.minutes.keys()];
  $("empty").hidden = starts.length > 0;
  const newest = starts.length ? Math.max(...starts) : null;
  if ($("state").className === "live") {
    $("state").textContent = newest === null ? "live, nothing yet" : `live, newest minute ${clock.format(newest)}`;
  }
  drawTiles(newest);
  drawMinutes(newest);
  drawHours();
}

function drawTiles(newest) {
  // The minute that has begun is not whole.
  const whole = known.minutes.has(newest - MINUTE_MS) ? newest - MINUTE_MS : newest;
  const minute = known.minutes.get(whole);
  const hour = known.hours.get(Math.max(...known.hours.keys()));
  const records = minute && sum(minute.collections);
  $("tile-minute").textContent = minute ? number.format(records) : "–";
  $("tile-deletes").textContent = records ? `${((100 * minute.deletes) / records).toFixed(1)} %` : "–";
  $("tile-hour").textContent = hour ? number.format(hour.records) : "–";
  $("tile-accounts").textContent = hour ? number.format(hour.accounts) : "–";
}

function range(newest) {
  return { first: newest - (view.range - 1) * MINUTE_MS, last: newest };
}

function drawMinutes(newest) {
  const { first, last } = range(newest ?? Math.floor(Date.now() / MINUTE_MS) * MINUTE_MS);
  if (view.chosen !== null && (view.chosen < first || view.chosen > last)) view.chosen = null;
  const shown = [...known.minutes].filter(([start]) => start >= first && start <= last);
  const all = totals(shown.map(([, minute]) => minute.collections));
  const coloured = ranked(all).slice(0, COLOURS).map(([name]) => name);

  const top = Math.max(1, ...shown.map(([, minute]) => sum(minute.collections)));
  const bars = $("bars");
  bars.setAttribute("viewBox", `0 0 ${view.range} ${top}`);
  bars.replaceChildren();
  if (view.chosen !== null) bars.append(bar((view.chosen - first) / MINUTE_MS, 0, top, "chosen", 1));
  for (const [start, minute] of shown) {
    let height = 0;
    const parts = coloured.map((name) => minute.collections[name] ?? 0);
    parts.push(sum(minute.collections) - parts.reduce((a, b) => a + b, 0));
    parts.forEach((count, n) => {
      if (count > 0) bars.append(bar((start - first) / MINUTE_MS, top - height - count, count, `c${n}`, 0.86));
      height += count;
    });
  }
  $("scale-top").textContent = number.format(top);
  $("axis-first").textContent = clock.format(first);
  $("axis-last").textContent = clock.format(last);
  $("legend").replaceChildren(
    ...[...coloured, ...(ranked(all).length > COLOURS ? ["all others"] : [])].map((name, n) => {
      const item = text("li", name);
      item.className = `c${n}`;
      return item;
    }),
  );

  const chosen = view.chosen === null ? shown.map(([, minute]) => minute) : [known.minutes.get(view.chosen)];
  const minutes = chosen.filter((minute) => minute !== undefined);
  const collections = totals(minutes.map((minute) => minute.collections));
  const spoken = totals(minutes.map((minute) => minute.languages));
  delete spoken.und; // most collections have no language to tell
  const span =
    view.chosen === null ? `${clock.format(first)} to ${clock.format(last)}` : `${clock.format(view.chosen)}`;
  const said = `${span}: ${number.format(sum(collections))} records`;
  if ($("readout").textContent !== said) $("readout").textContent = said;
  const plot = $("plot");
  plot.setAttribute("aria-valuetext", said);
  plot.setAttribute("aria-valuemin", 0);
  plot.setAttribute("aria-valuemax", view.range - 1);
  plot.setAttribute("aria-valuenow", ((view.chosen ?? last) - first) / MINUTE_MS);
  table("collections", ranked(collections).map(([name, count]) => [text("span", name), number.format(count)]));
  table("languages", ranked(spoken).map(([name, count]) => [text("span", language(name)), number.format(count)]));
}

function drawHours() {
  const starts = [...known.hours.keys()].sort((a, b) => b - a);
  const select = $("hours");
  const wanted = starts.map(String);
  if ([...select.options].map((option) => option.value).join() !== wanted.join()) {
    select.replaceChildren(
      ...starts.map((start) => {
        const option = text("option", clock.format(start));
        option.value = start;
        return option;
      }),
    );
  }
  const hour = starts.includes(view.hour) ? view.hour : starts[0];
  if (hour !== undefined) select.value = hour;
  select.disabled = starts.length === 0;
  const value = known.hours.get(hour) ?? { posts: [], links: [], hashtags: [] };
  table("posts", value.posts.map((mention) => [post(mention.item), bounds(mention)]));
  table("links", value.links.map((mention) => [link(mention.item), bounds(mention)]));
  table("hashtags", value.hashtags.map((mention) => [text("span", `#${mention.item}`), bounds(mention)]));
}

// ---- small parts ---------------------------------------------------------------------------

function bar(x, y, height, name, width) {
  const rect = document.createElementNS("http://www.w3.org/2000/svg", "rect");
  rect.setAttribute("x", x + (1 - width) / 2);
  rect.setAttribute("y", y);
  rect.setAttribute("width", width);
  rect.setAttribute("height", height);
  rect.setAttribute("class", name);
  return rect;
}

function table(id, rows) {
  const body = $(id).tBodies[0];
  const made = rows.slice(0, LISTED).map(([name, count]) => {
    const row = document.createElement("tr");
    const head = document.createElement("th");
    head.scope = "row";
    head.title = name.title || name.textContent;
    head.append(name);
    row.append(head, text("td", count));
    return row;
  });
  if (made.length === 0) {
    const row = document.createElement("tr");
    const none = text("td", "nothing yet");
    none.className = "none";
    row.append(none);
    made.push(row);
  }
  // What did not change stays, so that a selection or a focused link does.
  if (made.map((row) => row.textContent).join("\n") !== [...body.rows].map((row) => row.textContent).join("\n")) {
    body.replaceChildren(...made);
  }
}

function text(tag, content) {
  const element = document.createElement(tag);
  element.textContent = content;
  return element;
}

function link(address) {
  if (!/^https?:\/\//i.test(address)) return text("span", address);
  const anchor = text("a", address.replace(/^https?:\/\//i, ""));
  anchor.href = address;
  anchor.rel = "noopener noreferrer nofollow";
  anchor.target = "_blank";
  return anchor;
}

// Both ends of an address tell posts apart; there is no room for all of it.
function post(address) {
  const [, , did, , rkey] = address.split("/");
  const element = text("span", did && rkey ? `${did.slice(0, 16)}\u2026/${rkey}` : address);
  element.title = address;
  return element;
}

function bounds({ low, high }) {
  return low === high ? number.format(low) : `${number.format(low)}–${number.format(high)}`;
}

function language(code) {
  return NAMES[code] ?? languages.of(code);
}

function totals(counts) {
  const total = {};
  for (const count of counts) for (const [name, n] of Object.entries(count)) total[name] = (total[name] ?? 0) + n;
  return total;
}

function ranked(counts) {
  return Object.entries(counts).filter(([, n]) => n > 0).sort(([a, n], [b, m]) => m - n || (a < b ? -1 : 1));
}

function sum(counts) {
  return Object.values(counts).reduce((a, b) => a + b, 0);
}

// ---- what a person does --------------------------------------------------------------------

function choose(minute) {
  const newest = Math.max(...known.minutes.keys());
  if (!Number.isFinite(newest)) return;
  const { first, last } = range(newest);
  view.chosen = minute === null ? null : Math.min(last, Math.max(first, minute));
  schedule();
}

function setRange(minutes) {
  view.range = minutes;
  for (const button of $("ranges").children) {
    button.setAttribute("aria-pressed", String(Number(button.dataset.minutes) === minutes));
  }
  schedule();
}

function minuteAt(event) {
  const box = $("plot").getBoundingClientRect();
  const { first } = range(Math.max(...known.minutes.keys()));
  return first + Math.floor(((event.clientX - box.left) / box.width) * view.range) * MINUTE_MS;
}

const KEYS = {
  ArrowLeft: (newest) => choose((view.chosen ?? newest + MINUTE_MS) - MINUTE_MS),
  ArrowRight: (newest) => choose((view.chosen ?? newest) + MINUTE_MS),
  Home: (newest) => choose(range(newest).first),
  End: (newest) => choose(newest),
  Escape: () => choose(null),
  1: () => setRange(30),
  2: () => setRange(60),
  3: () => setRange(180),
};

document.addEventListener("keydown", (event) => {
  const isTyping = event.target instanceof HTMLSelectElement;
  if (isTyping || event.ctrlKey || event.altKey || event.metaKey || !(event.key in KEYS)) return;
  event.preventDefault();
  KEYS[event.key](Math.max(...known.minutes.keys()));
});
$("plot").addEventListener("pointerdown", (event) => choose(minuteAt(event)));
$("plot").addEventListener("pointermove", (event) => {
  if (event.buttons || event.pointerType === "mouse") choose(minuteAt(event));
});
$("plot").addEventListener("pointerleave", (event) => {
  if (event.pointerType === "mouse") choose(null);
});
$("ranges").addEventListener("click", (event) => {
  if (event.target.dataset.minutes) setRange(Number(event.target.dataset.minutes));
});
$("hours").addEventListener("change", (event) => {
  view.hour = Number(event.target.value);
  schedule();
});

follow();
schedule();
