"use strict";

const COLUMNS = 240; // steps that a picture shows
const LIVE = 80; // milliseconds between two steps of the live signal
const COLOURS = ["#0b62a4", "#c2570c", "#2e7d32", "#7b1fa2", "#00838f"];
const token = new URLSearchParams(location.hash.slice(1)).get("token") || "";
const query = (more) => {
  const given = new URLSearchParams(more);
  if (token) given.set("token", token);
  return given.size ? `?${given}` : "";
};
const short = (v) => (typeof v === "number" ? Number(v.toPrecision(5)).toString() : typeof v === "string" ? v : JSON.stringify(v));
let about = null;
let opened = 0;

/* One stream: a websocket, what waits to be sent, and the pictures of what came back. */
class Panel {
  constructor() {
    this.root = document.getElementById("panel").content.firstElementChild.cloneNode(true);
    document.getElementById("streams").append(this.root);
    this.number = ++opened;
    this.at("h2").textContent = `Stream ${this.number}`;
    this.queue = [];
    this.busy = false;
    this.marking = false;
    this.session = "";
    this.step = 0;
    this.values = [];
    this.names = [];
    this.felt = [];
    this.clear();
    this.controls();
    this.connect();
  }

  at(selector) {
    return this.root.querySelector(selector);
  }

  status(text, bad = false) {
    this.at(".status").textContent = text;
    this.at(".status").classList.toggle("bad", bad);
  }

  controls() {
    const wanted = about.reads_text ? "A line of text" : about.rate ? "A line: samples, [0.1, ...]" : `A line: ${example()}`;
    this.at(".what").textContent = wanted;
    this.at(".line").placeholder = about.reads_text ? "type, and press Enter" : example();
    this.at("form").addEventListener("submit", (event) => {
      event.preventDefault();
      const line = this.at(".line").value;
      if (!line && !about.reads_line_ends) return;
      const value = parsed(line);
      if (value === undefined) return this.status(`not a line that the model reads: ${example()}`, true);
      this.send(value);
      this.at(".line").value = "";
    });
    this.at(".live").addEventListener("click", () => this.live(!this.timer));
    this.at(".mark").addEventListener("click", () => {
      this.marking = true;
      this.status("the next input is marked");
    });
    this.at(".reset").addEventListener("click", () => {
      this.queue.length = 0;
      this.clear();
      this.send({ reset: true });
    });
    this.at(".close").addEventListener("click", () => this.close());
    this.at(".pick").addEventListener("change", (event) => event.target.files[0] && this.read(event.target.files[0]));
    this.root.addEventListener("dragover", (event) => {
      event.preventDefault();
      this.root.classList.add("over");
    });
    this.root.addEventListener("dragleave", () => this.root.classList.remove("over"));
    this.root.addEventListener("drop", (event) => {
      event.preventDefault();
      this.root.classList.remove("over");
      if (event.dataTransfer.files[0]) this.read(event.dataTransfer.files[0]);
    });
  }

  connect() {
    const scheme = location.protocol === "https:" ? "wss" : "ws";
    this.socket = new WebSocket(`${scheme}://${location.host}/stream${query(this.session ? { session: this.session } : {})}`);
    this.ready = false;
    this.status("connecting");
    this.socket.onmessage = (event) => this.heard(JSON.parse(event.data));
    this.socket.onclose = (event) => {
      this.ready = this.busy = false;
      if (this.closed) return;
      if (event.code === 1008) this.session = ""; // what was there is gone: the next one is new
      this.status(event.reason || "disconnected, trying again", true);
      this.again = setTimeout(() => this.connect(), 1000);
    };
  }

  heard(answer) {
    if (!this.ready) {
      if (answer.error) return this.status(answer.error.what, true);
      this.ready = true;
      this.status(this.session && answer.steps ? `resumed at step ${answer.steps}` : "connected");
      this.session = answer.session;
      this.step = answer.steps;
      this.socket.send(JSON.stringify({ watch: true }));
      return this.next();
    }
    this.busy = false;
    if (answer.error) this.status([answer.error.what, answer.error.hint].filter(Boolean).join("; "), true);
    else this.show(answer);
    this.next();
  }

  send(value) {
    this.queue.push(value);
    this.next();
  }

  next() {
    if (!this.ready || this.busy || !this.queue.length) return;
    let value = this.queue.shift();
    if (this.marking && !(value && value.reset)) {
      value = { mark: value };
      this.marking = false;
      this.felt = [];
    }
    this.busy = true;
    this.socket.send(JSON.stringify(value));
  }

  live(on) {
    clearInterval(this.timer);
    this.timer = on ? setInterval(() => this.queue.length < 4 && this.send(signal(this.tick = (this.tick || 0) + 1)), LIVE) : 0;
    this.at(".live").setAttribute("aria-pressed", on ? "true" : "false");
  }

  async read(file) {
    this.live(false);
    try {
      const lines = await lines_of(file);
      this.status(`${file.name}: ${lines.length} lines`);
      for (const line of lines) this.queue.push(line);
      this.next();
    } catch (error) {
      this.status(`${file.name}: ${error.message}`, true);
    }
  }

  close() {
    this.closed = true;
    this.live(false);
    clearTimeout(this.again);
    this.socket.close();
    this.root.remove();
    document.getElementById("add").focus();
  }

  clear() {
    this.values = [];
    this.felt = [];
    for (const name of [".state", ".gates", ".values", ".felt"]) {
      const canvas = this.at(name);
      canvas.width = COLUMNS * (name === ".values" || name === ".felt" ? 3 : 1);
      canvas.getContext("2d").clearRect(0, 0, canvas.width, canvas.height);
    }
  }

  show(answer) {
    const { step, state, gates, felt, ...said } = answer;
    this.step = step;
    if (Object.keys(said).length) {
      this.status(`step ${step}`);
      const list = this.at(".answer");
      list.replaceChildren();
      for (const [name, value] of Object.entries(flat(said)).slice(0, 24)) {
        const term = document.createElement("dt");
        const detail = document.createElement("dd");
        term.textContent = name;
        detail.textContent = short(value);
        list.append(term, detail);
      }
      const numbers = Object.entries(flat(said)).filter(([, value]) => typeof value === "number").slice(0, COLOURS.length);
      this.names = numbers.map(([name]) => name);
      this.values.push(numbers.map(([, value]) => value));
      if (this.values.length > COLUMNS) this.values.shift();
      lines(this.at(".values"), this.values);
      this.legend();
    }
    if (state) scroll(this.at(".state"), Object.values(state).flat().slice(0, 128), (v) => diverging(Math.tanh(v)));
    if (gates && Object.keys(gates).length) {
      scroll(this.at(".gates"), Object.values(gates).flat().slice(0, 128), (v) => `rgb(${[40, 60, 80].map((c) => c + v * 170).join()})`);
      this.at(".gatenames").textContent = `The gates (${Object.keys(gates).join("; ")}): dark is closed, light is open`;
    }
    if (felt !== undefined) {
      this.felt.push([felt]);
      if (this.felt.length > COLUMNS) this.felt.shift();
      lines(this.at(".felt"), this.felt, 0);
      this.at(".feltnow").textContent = `The marked input is felt at ${short(felt)} of what it was`;
    }
  }

  legend() {
    const legend = this.at(".legend");
    legend.replaceChildren();
    this.names.forEach((name, i) => {
      const mark = document.createElement("span");
      const seen = this.values.map((row) => row[i]).filter(Number.isFinite);
      mark.textContent = `${"─┄┈╌┅"[i]} ${name}: ${short(Math.min(...seen))} to ${short(Math.max(...seen))}  `;
      mark.style.color = COLOURS[i];
      legend.append(mark);
    });
  }
}

function flat(said) {
  const found = {};
  for (const [name, value] of Object.entries(said)) {
    if (Array.isArray(value) && value.length && typeof value[0] === "number") value.slice(0, 12).forEach((v, i) => (found[`${name} ${i + 1}`] = v));
    else if (value && typeof value === "object" && !Array.isArray(value)) for (const [key, v] of Object.entries(value)) found[`${name} ${JSON.stringify(key)}`] = v;
    else found[name] = value;
  }
  return found;
}

/* A column more at the right of a picture, a row a number. */
function scroll(canvas, numbers, colour) {
  const g = canvas.getContext("2d");
  g.imageSmoothingEnabled = false;
  g.drawImage(canvas, -1, 0);
  const tall = canvas.height / numbers.length;
  numbers.forEach((v, i) => {
    g.fillStyle = colour(v === null ? 0 : v);
    g.fillRect(canvas.width - 1, i * tall, 1, Math.ceil(tall));
  });
}

function diverging(v) {
  const [r, g, b] = v < 0 ? [11, 98, 164] : [214, 104, 20];
  const mix = (c) => Math.round(245 + (c - 245) * Math.abs(v));
  return `rgb(${mix(r)},${mix(g)},${mix(b)})`;
}

function lines(canvas, rows, least) {
  const g = canvas.getContext("2d");
  g.clearRect(0, 0, canvas.width, canvas.height);
  const all = rows.flat().filter(Number.isFinite);
  if (!all.length) return;
  const low = Math.min(least === undefined ? Infinity : least, ...all);
  const high = Math.max(low + 1e-9, ...all);
  const y = (v) => canvas.height - 4 - ((v - low) / (high - low)) * (canvas.height - 8);
  const x = (t) => canvas.width - 2 - ((rows.length - 1 - t) * canvas.width) / COLUMNS;
  for (let i = 0; i < Math.max(...rows.map((row) => row.length)); ++i) {
    g.strokeStyle = COLOURS[i % COLOURS.length];
    g.lineWidth = 2;
    g.setLineDash([[], [9, 4], [3, 3], [12, 3, 3, 3], [5, 5]][i % 5]);
    g.beginPath();
    rows.forEach((row, t) => (t ? g.lineTo(x(t), y(row[i])) : g.moveTo(x(t), y(row[i]))));
    g.stroke();
  }
}

function example() {
  if (about.reads_text) return "text";
  if (about.rate) return "[0.01, -0.02]";
  return `[${about.inputs.map((_, i) => short(about.mean[i])).join(", ")}]`;
}

/* What a line says; undefined where it is none. */
function parsed(line) {
  if (about.reads_text) return about.reads_line_ends ? `${line}\n` : line;
  try {
    const value = JSON.parse(/^[^[{]*,/.test(line) ? `[${line}]` : line);
    return typeof value === "string" ? undefined : value;
  } catch {
    return undefined;
  }
}

/* A made-up line: waves of the size that the model knows, words, or a tone. */
function signal(t) {
  if (about.reads_text) return `${["the", "thread", "leads", "out", "of", "the", "maze"][t % 7]} `;
  if (about.rate) return Array.from({ length: Math.round(about.rate * LIVE / 1000) }, (_, i) => 0.2 * Math.sin((t * LIVE / 1000 + i / about.rate) * 2 * Math.PI * (300 + 40 * (t % 8))));
  return about.inputs.map((_, i) => about.mean[i] + about.std[i] * (Math.sin(t / (5 + 3 * i)) + 0.2 * (Math.random() - 0.5)));
}

/* The lines that a file holds: rows of numbers, a sound, or a text. */
async function lines_of(file) {
  if (about.rate) {
    const context = new OfflineAudioContext(1, 1, about.rate);
    const sound = await context.decodeAudioData(await file.arrayBuffer()).catch(() => {
      throw new Error("not a sound that this browser reads");
    });
    const samples = Array.from(sound.getChannelData(0), (v) => Math.max(-1, Math.min(1, v)));
    const size = Math.round(about.rate / 10);
    return Array.from({ length: Math.ceil(samples.length / size) }, (_, i) => samples.slice(i * size, (i + 1) * size));
  }
  const text = (await file.text()).replace(/\r\n?/g, "\n");
  const rows = text.split("\n");
  if (rows.at(-1) === "") rows.pop();
  if (about.reads_text) return about.reads_line_ends ? rows.map((row) => `${row}\n`) : rows;
  if (/\.jsonl?$/.test(file.name)) return rows.map((row) => JSON.parse(row));
  const cut = rows.find((row) => row.includes("\t")) ? "\t" : rows[0].includes(";") ? ";" : ",";
  const cells = rows.map((row) => row.split(cut).map((cell) => cell.trim().replace(/^"|"$/g, "")));
  const named = about.inputs.map((name) => cells[0].indexOf(name));
  const header = named.every((i) => i >= 0);
  if (!header && cells[0].some((cell) => cell === "" || Number.isNaN(Number(cell)))) throw new Error(`no column named ${about.inputs[named.indexOf(-1)]}`);
  return (header ? cells.slice(1) : cells).map((row, n) => about.inputs.map((name, i) => {
    const cell = row[header ? named[i] : i];
    if (cell === undefined || cell === "" || Number.isNaN(Number(cell))) throw new Error(`row ${n + 1 + header}: ${name} is no number`);
    return Number(cell);
  }));
}

async function start() {
  const said = document.getElementById("about");
  try {
    const answer = await fetch(`model${query({})}`);
    if (answer.status === 401) throw new Error("this server wants a token: add #token=... to the address");
    if (!answer.ok) throw new Error(`the server answered ${answer.status}`);
    about = await answer.json();
  } catch (error) {
    said.textContent = error.message;
    return;
  }
  const reads = about.reads_text ? "text" : about.rate ? `sound, ${about.rate} samples a second` : about.inputs.slice(0, 6).join(", ") + (about.inputs.length > 6 ? ", ..." : "");
  said.textContent = `${about.task}: reads ${reads}`;
  document.getElementById("add").addEventListener("click", () => new Panel().at(".line").focus());
  new Panel();
}

start();
