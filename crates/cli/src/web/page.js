// The page of `vusb web`. Strings of devices and guests only become text: textContent, attributes
// of elements that are made here, and an SVG that is parsed as XML.
"use strict";

const get = (id) => document.getElementById(id);
const TOKEN = "vusb-token";
if (location.hash.length > 1) {
  sessionStorage.setItem(TOKEN, location.hash.slice(1));
  // Removes the secret from the address bar and from the history.
  history.replaceState(null, "", "/");
}
const token = sessionStorage.getItem(TOKEN) || "";

let readOnly = false;
let chosen = null;

async function ask(path, body) {
  const headers = { Authorization: "Bearer " + token };
  const options = body ? { method: "POST", headers, body: JSON.stringify(body) } : { headers };
  const response = await fetch(path, options);
  if (response.status === 401) throw new Error(await response.text());
  return response;
}

async function call(body) {
  try {
    return await (await ask("/call", body)).json();
  } catch (error) {
    return { error: { message: String(error.message || error), hints: [] } };
  }
}

function say(text, bad) {
  get("state").textContent = text;
  get("state").classList.toggle("bad", Boolean(bad));
}

// Server-sent events, read by fetch: EventSource cannot send a header.
async function follow() {
  for (let wait = 500; ; wait = Math.min(wait * 2, 10000)) {
    try {
      const response = await ask("/events");
      if (!response.ok) throw new Error(await response.text());
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      for (let text = ""; ; ) {
        const { value, done } = await reader.read();
        if (done) break;
        text += value;
        const events = text.split("\n\n");
        text = events.pop();
        for (const event of events) {
          const data = event.split("\n").find((line) => line.startsWith("data: "));
          if (data) { show(JSON.parse(data.slice(6))); wait = 500; }
        }
      }
      say("disconnected; trying again", true);
    } catch (error) {
      say(String(error.message || error), true);
    }
    await new Promise((resolve) => setTimeout(resolve, wait));
  }
}

function show(shown) {
  if (shown.error) return say(shown.error, true);
  const parsed = new DOMParser().parseFromString(shown.svg, "image/svg+xml");
  if (parsed.querySelector("parsererror")) return say("the picture cannot be read", true);
  readOnly = shown.readOnly;
  get("picture").replaceChildren(document.importNode(parsed.documentElement, true));
  const event = shown.events[shown.events.length - 1];
  say(event ? event.event + ": " + event.text : "live");
  questions(shown.questions);
  filter();
  mark();
}

function button(text, action) {
  const made = document.createElement("button");
  made.type = "button";
  made.className = "do";
  made.textContent = text;
  made.addEventListener("click", () => action(made));
  return made;
}

function questions(all) {
  const rows = all.map((question) => {
    const row = document.createElement("div");
    row.className = "question";
    const text = document.createElement("strong");
    text.textContent = "Which guest gets " + question.what + "?";
    const keep = document.createElement("input");
    keep.type = "checkbox";
    const label = document.createElement("label");
    label.append(keep, " permanently");
    const to = question.domains.map((domain) => button(domain, async (pressed) => {
      pressed.disabled = true;
      const done = await call({ do: "answer", question: question.number, domain, remember: keep.checked });
      if (done.error) { text.textContent = done.error.message; pressed.disabled = false; }
    }));
    row.append(text, label, ...(readOnly ? [] : to));
    return row;
  });
  get("questions").replaceChildren(...rows);
  get("questions").hidden = rows.length === 0;
}

function tell(text, bad) {
  get("result").textContent = text;
  get("result").classList.toggle("bad", Boolean(bad));
}

function open(subject) {
  get("subject").textContent = subject;
  get("actions").replaceChildren();
  get("details").textContent = "";
  get("panel").hidden = false;
  tell("", false);
}

async function change(pressed, body, done) {
  pressed.disabled = true;
  tell("working…", false);
  const answer = await call(body);
  pressed.disabled = false;
  if (answer.error) {
    tell([answer.error.message, ...answer.error.hints].join("\n"), true);
  } else {
    tell(answer.already ? "no change was needed" : done, false);
    get("actions").replaceChildren();
  }
}

async function device(node) {
  const { busid, at } = node.dataset;
  chosen = busid;
  mark();
  open(node.getAttribute("aria-label"));
  const explained = await call({ do: "explain", device: at });
  if (chosen !== busid) return;
  if (explained.error) return tell(explained.error.message, true);
  get("details").textContent = explained.text;
  if (readOnly) return;
  const held = explained.view.device && explained.view.device.holder;
  const actions = held
    ? [button("Detach from " + held.domain, (it) =>
        change(it, { do: "detach", device: held.at, domain: held.domain }, "detached"))]
    : explained.view.permissions
        .filter((it) => it.verdict === "allowed")
        .map(({ domain }) => button("Attach to " + domain, (it) =>
          change(it, { do: "attach", device: at, domain }, "attached to " + domain)));
  get("actions").replaceChildren(...actions);
  if (actions.length === 0) tell("the rules let no guest have this device", false);
}

function place(node) {
  const { domain, place, name, of } = node.dataset;
  chosen = of || null;
  mark();
  open(name + ", at " + place + " of " + domain);
  if (readOnly) return;
  get("actions").replaceChildren(button("Detach", (it) =>
    change(it, { do: "detach", device: place, domain }, "detached")));
}

function guest(node) {
  const { domain } = node.dataset;
  chosen = null;
  mark();
  open(domain);
  if (readOnly) return tell("a click on a device shows what the rules mean for it", false);
  tell("A device of this machine is attached by a click on it. Or add an emulated one:", false);
  const inputs = ["tablet", "mouse", "keyboard"];
  get("actions").replaceChildren(...inputs.map((kind) => button("Add a " + kind, (it) =>
    change(it, { do: "attach", device: kind, domain }, kind + " added"))));
}

function mark() {
  for (const node of get("picture").querySelectorAll(".device, .place, .connection")) {
    const own = node.dataset.busid || node.dataset.of;
    node.classList.toggle("chosen", Boolean(chosen) && own === chosen);
  }
}

// Shows what matches, and what is connected with it.
function filter() {
  const words = get("filter").value.trim().toLowerCase();
  const nodes = [...get("picture").querySelectorAll(".device, .place, .connection")];
  const text = (node) => (node.getAttribute("aria-label") || "") + " " + (node.textContent || "");
  const kept = new Set();
  for (const node of nodes) {
    const own = node.dataset.busid || node.dataset.of;
    if (own && text(node).toLowerCase().includes(words)) kept.add(own);
  }
  for (const node of nodes) {
    const own = node.dataset.busid || node.dataset.of;
    const keeps = words === "" || kept.has(own) || (!own && text(node).toLowerCase().includes(words));
    node.classList.toggle("dim", !keeps);
  }
}

function choose(event) {
  const node = event.target.closest(".device, .place, .guest");
  if (!node) return;
  const actions = { device, place, guest };
  actions[node.getAttribute("class").split(" ")[0]](node);
}

document.addEventListener("DOMContentLoaded", () => {
  get("picture").addEventListener("click", choose);
  get("picture").addEventListener("keydown", (event) => {
    if (event.key === "Enter" || event.key === " ") { event.preventDefault(); choose(event); }
  });
  get("filter").addEventListener("input", filter);
  get("close").addEventListener("click", () => { get("panel").hidden = true; chosen = null; mark(); });
  follow();
});
