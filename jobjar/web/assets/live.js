// Keeps a page up to date: when the server says that something changed, the page is fetched again, and the parts that differ
// are replaced. Where events are cut off, it asks every five seconds. Without this script the page is what it was when it came.
"use strict";

const POLL_MS = 5000;
const status = document.getElementById("live");
let isFetching = false;
let isDue = false;
let polling = null;

function show(text) {
  if (status && status.textContent !== text) status.textContent = text;
}

function replacePart(part, fresh) {
  if (part.innerHTML === fresh.innerHTML) return;
  const open = [...part.querySelectorAll("details")].map((each) => each.open);
  const regions = [...part.querySelectorAll(".wide")].map((each) => each.scrollLeft);
  const links = [...part.querySelectorAll("a, summary, [tabindex]")];
  const focused = links.indexOf(document.activeElement);
  part.replaceChildren(...fresh.childNodes);
  part.querySelectorAll("details").forEach((each, number) => { each.open = open[number] ?? each.open; });
  part.querySelectorAll(".wide").forEach((each, number) => { each.scrollLeft = regions[number] ?? 0; });
  if (focused >= 0) part.querySelectorAll("a, summary, [tabindex]")[focused]?.focus({ preventScroll: true });
}

async function refresh() {
  if (isFetching) { isDue = true; return; }
  isFetching = true;
  try {
    const answer = await fetch(location.href, { credentials: "same-origin", cache: "no-store" });
    if (!answer.ok) throw new Error(String(answer.status));
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    for (const part of document.querySelectorAll("[data-live]")) {
      const fresh = page.getElementById(part.id);
      if (fresh) replacePart(part, fresh);
    }
    show(polling ? "live (asking)" : "live");
  } catch (error) {
    show("not live: the server does not answer");
  } finally {
    isFetching = false;
    if (isDue) { isDue = false; setTimeout(refresh, 200); }
  }
}

function poll() {
  if (!polling) polling = setInterval(() => { if (!document.hidden) refresh(); }, POLL_MS);
}

function listen() {
  const events = new EventSource("/events");
  let first = true;
  let failures = 0;
  events.addEventListener("look", () => {
    failures = 0;
    if (polling) { clearInterval(polling); polling = null; }
    if (first) { first = false; show("live"); } else if (!document.hidden) refresh(); else isDue = true;
  });
  events.onerror = () => {
    failures += 1;
    first = false;
    if (failures >= 3 || events.readyState === EventSource.CLOSED) poll();
    show("not live: the server does not answer");
  };
  addEventListener("pagehide", () => events.close());
  document.addEventListener("visibilitychange", () => { if (!document.hidden && isDue) { isDue = false; refresh(); } });
}

// The output of a job that runs is added to as it comes.
function follow(output) {
  const events = new EventSource(output.dataset.follow);
  const longest = 200000;
  output.scrollTop = output.scrollHeight;
  events.addEventListener("output", (event) => {
    const isAtEnd = output.scrollTop + output.clientHeight >= output.scrollHeight - 20;
    output.append(event.data);
    if (output.textContent.length > longest) output.textContent = output.textContent.slice(-longest / 2);
    if (isAtEnd) output.scrollTop = output.scrollHeight;
  });
  events.addEventListener("end", () => events.close());
  // It would begin again at the same byte.
  events.onerror = () => events.close();
  addEventListener("pagehide", () => events.close());
}

if (status) {
  if (window.EventSource && !new URLSearchParams(location.search).has("poll")) listen(); else { poll(); show("live (asking)"); }
}
for (const output of document.querySelectorAll("[data-follow]")) follow(output);
document.querySelectorAll("form.filters select").forEach((each) => each.addEventListener("change", () => each.form.requestSubmit()));
