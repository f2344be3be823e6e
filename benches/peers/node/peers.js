// What a session of npm's cookie-session and of iron-session adds to a request, in the cases of ../src/peers.rs.
//
// `./run [--quick] [--json FILE]`
//
// Counted: the middleware or the call that gets the session, the handler's own reading and writing, and that the
// response's head is longer by a Set-Cookie when `end` puts it together.
// Not counted, since the bare handler has them too: making the request and the response, and `end` itself.
// Not there at all: a network, a parser (the headers are an object, as they are a HeaderMap in the Rust bench) and
// Express: cookie-session is called as Connect and Express call it, `(req, res, next)`.

import { strict as assert } from "node:assert";
import { fork } from "node:child_process";
import { once } from "node:events";
import { readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { CASES, PEERS, mostNotes } from "./apps.js";
import { SIZES } from "./shop.js";

const here = (file) => fileURLToPath(new URL(file, import.meta.url));

function options(args) {
  const options = { quick: false, json: undefined };
  while (args.length > 0) {
    const arg = args.shift();
    if (arg === "--quick") options.quick = true;
    else if (arg === "--json" && args.length > 0) options.json = args.shift();
    else throw new Error(`${arg}: there are --quick and --json FILE`);
  }
  return options;
}

const ask = async (child, question) => {
  child.send(question);
  const [answer] = await once(child, "message");
  return answer;
};

// All cells in each round, so that a drift of the machine hits all alike. Each in a process of its own: what V8
// compiles depends on all the objects it has met, and the bare handler is slower once cookie-session ran beside it.
//
// A run is far longer than in the Rust bench, to have the collector's share in it, as there a run has its `drop`s.
// With cookie-session that is most of `untouched`: it defines a getter on each request, and V8 keeps what such a getter
// holds until a full collection, while each young one copies it.
async function interleaved(cells, rounds, run, warm) {
  for (const cell of cells) {
    cell.child = fork(here("cell.js"), [cell.peer, cell.case, String(cell.notes)]);
    cell.child.once("exit", (code) => assert.equal(code, 0, `${cell.peer} ${cell.case} has failed`));
    Object.assign(cell, await ask(cell.child, { run, warm }), { ns: [], cpu: [] });
  }
  for (let round = 0; round < rounds; round++) {
    // Forwards and backwards in turn: the neighbour that warmed the caches is another one.
    for (const cell of round % 2 === 0 ? cells : cells.toReversed()) {
      const { ns, cpu } = await ask(cell.child, { times: cell.times });
      cell.ns.push(ns);
      cell.cpu.push(cpu);
    }
  }
  for (const { child } of cells) child.disconnect();
}

const median = (values) => values.toSorted((a, b) => a - b)[values.length >> 1];
const mean = (values) => values.reduce((sum, value) => sum + value) / values.length;

const { quick, json } = options(process.argv.slice(2));
const version = (name) => JSON.parse(readFileSync(here(`node_modules/${name}/package.json`))).version;
assert.match(process.version, /^v22\./);
assert.equal(version("cookie-session"), "2.1.1");
// On an older Node, npm offers iron-session 8, which is another one.
assert.match(version("iron-session"), /^9\./);

const cells = [];
for (const kase of CASES)
  for (const [notes, size] of SIZES)
    for (const peer of Object.keys(PEERS)) cells.push({ peer, case: kase, notes, size });
const [rounds, run, warm] = quick ? [10, 30e6, 200e6] : [30, 100e6, 500e6];
await interleaved(cells, rounds, run, warm);

// `added cpu` is the mean of the processor's time in all threads: the collector and WebCrypto have some of their own.
const WIDTHS = [12, -5, 21, -9, -10, -11, -11];
const aligned = (text, at) => (WIDTHS[at] > 0 ? text.padEnd(WIDTHS[at]) : text.padStart(-WIDTHS[at]));
const print = (texts) => console.log(texts.map(aligned).join(""));
const versions = ["cookie-session", "iron-session"].map((name) => `, ${name} ${version(name)}`);
console.log(`Node ${process.version}${versions.join("")}\n`);
print(["case", "bytes", "  peer", "ns", "added ns", "added cpu", "Set-Cookie"]);
let lines = "";
for (const cell of cells) {
  const bare = cells.find((it) => it.peer === "bare" && it.case === cell.case && it.size === cell.size);
  const added = median(cell.ns.map((its, round) => its - bare.ns[round]));
  const numbers = [median(cell.ns), added, mean(cell.cpu) - mean(bare.cpu), cell.setCookie];
  print([cell.case, String(cell.size), `  ${cell.peer}`, ...numbers.map((number) => number.toFixed(0))]);
  if (cell !== bare) {
    const row = { peer: cell.peer, case: cell.case, size: cell.size, added_ns: Number(added.toFixed(1)) };
    lines += `${JSON.stringify({ ...row, set_cookie: cell.setCookie, allocs: null })}\n`;
  }
}
console.log("\nshort strings that fit into 4093 bytes of Set-Cookie");
for (const peer of Object.keys(PEERS).filter((peer) => peer !== "bare")) {
  console.log(`${peer.padEnd(21)}${String(await mostNotes(peer)).padStart(5)}`);
}
if (json !== undefined) writeFileSync(json, lines);
