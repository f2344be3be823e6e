// The wire format of cookie-session, version 1, written from its specification page (src/docs/wire_format.md) alone:
// it shows that the page is enough. It is for tests, not for production. The sections follow the page's.
//
//   node cookie_session.mjs vectors DIR    opens and seals every vector of a folder
//   node cookie_session.mjs serve          answers requests, one JSON object in a line, from stdin

import { createCipheriv, createDecipheriv, createHash, createHmac, randomBytes, timingSafeEqual } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

// What the one who asks, or who wrote a vector, got wrong. Any other exception is a fault of this program.
class Malformed extends Error {}

function need(condition, message) {
  if (!condition) throw new Malformed(message);
}

// ---------------------------------------------------------------------------------------------------- Conventions

const U48 = 2n ** 48n - 1n;
const U64 = 2n ** 64n - 1n;
const SECOND = 1000n;
const LONGEST = 400n * 86_400n * SECOND;

/** A number, little-endian, in so many octets. */
function le(number, octets) {
  const n = BigInt(number);
  need(n >= 0n && n >> BigInt(8 * octets) === 0n, `${n} does not fit in ${octets} octets`);
  return Buffer.from(Array.from({ length: octets }, (_, i) => Number((n >> BigInt(8 * i)) & 0xffn)));
}

const fromLe = (octets) => octets.reduceRight((n, octet) => (n << 8n) | BigInt(octet), 0n);

/** LP(s): text is UTF-8. */
function lp(s) {
  const octets = Buffer.from(s);
  return Buffer.concat([le(octets.length, 4), octets]);
}

const hmac = (key, ...parts) => createHmac("sha256", key).update(Buffer.concat(parts)).digest();

const hkdfExtract = (ikm) => hmac(Buffer.alloc(32), ikm);

function hkdfExpand(prk, info, length) {
  let okm = Buffer.alloc(0);
  let block = okm;
  for (let i = 1; okm.length < length; i++) {
    block = hmac(prk, block, info, le(i, 1));
    okm = Buffer.concat([okm, block]);
  }
  return okm.subarray(0, length);
}

function aes256(key, block) {
  const cipher = createCipheriv("aes-256-ecb", key, null).setAutoPadding(false);
  return Buffer.concat([cipher.update(block), cipher.final()]);
}

const TOKEN = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/;

/** Checks a reader's parameters. `forms` are { schema, shape, good }: `good` judges a payload. */
function reader({ keys, name, context, accepts, forms, idle, absolute, maxOwn, now, refuses = null }) {
  need(keys.length > 0, "no key");
  const byId = new Map(keys.map((key) => [keyId(key).toString("hex"), key]));
  need(byId.size === keys.length, "two keys have one key id");
  need(TOKEN.test(name), "the name is not a token");
  need(accepts.length > 0, "no suite is accepted");
  const bySchema = new Map(forms.map((form) => [form.schema, form]));
  need(bySchema.size > 0 && bySchema.size === forms.length, "no form, or two forms of one schema number");
  for (const [what, ms] of Object.entries({ idle, absolute, maxOwn })) {
    need(ms >= SECOND && ms <= LONGEST, `${what} is not from 1 second to 400 days`);
  }
  need(idle <= absolute, "idle is above absolute");
  const clock = now < 0n ? 0n : now > U48 ? U48 : now;
  return { byId, name, context, accepts, bySchema, idle, absolute, maxOwn, now: clock, refuses };
}

// -------------------------------------------------------------------------------------------------------- Grammar

const SUITES = [
  { octet: 0x01, mode: "encrypted", nonce: 24, end: 16 },
  { octet: 0x02, mode: "signed", nonce: 0, end: 32 },
];

function suiteOf(mode) {
  const suite = SUITES.find((suite) => suite.mode === mode);
  need(suite, `no such mode: ${mode}`);
  return suite;
}

/** The frame of a cookie's value, a string of one character for each octet; null if it is none. */
function decodeValue(value) {
  // Node's decoder is lenient. One frame has one text, so all that it let pass is seen when it is encoded again.
  const frame = Buffer.from(value, "base64url");
  return frame.toString("base64url") === value ? frame : null;
}

// --------------------------------------------------------------------------------------------------- Key schedule

const LABEL = lp("cookie-session/v1");

const keyId = (key) => hkdfExpand(hkdfExtract(key), Buffer.concat([LABEL, lp("key-id")]), 4);

function sealKey(key, suite, purpose, name, context) {
  const info = Buffer.concat([LABEL, lp(le(suite.octet, 1)), lp(purpose), lp(name), lp(context)]);
  return hkdfExpand(hkdfExtract(key), info, 32);
}

/** The key of AES-256-GCM that XAES-256-GCM derives. */
function xaesKey(K, N) {
  const L = BigInt("0x" + aes256(K, Buffer.alloc(16)).toString("hex"));
  const K1 = ((L << 1n) % 2n ** 128n) ^ (L >> 127n === 1n ? 0x87n : 0n);
  const half = (counter) => {
    const M = Buffer.concat([Buffer.from([0x00, counter, 0x58, 0x00]), N.subarray(0, 12)]);
    const block = BigInt("0x" + M.toString("hex")) ^ K1;
    return aes256(K, Buffer.from(block.toString(16).padStart(32, "0"), "hex"));
  };
  return Buffer.concat([half(0x01), half(0x02)]);
}

function xaesSeal(K, N, plaintext) {
  const cipher = createCipheriv("aes-256-gcm", xaesKey(K, N), N.subarray(12), { authTagLength: 16 });
  return Buffer.concat([cipher.update(plaintext), cipher.final(), cipher.getAuthTag()]);
}

function xaesOpen(K, N, ciphertext, tag) {
  const decipher = createDecipheriv("aes-256-gcm", xaesKey(K, N), N.subarray(12), { authTagLength: 16 });
  decipher.setAuthTag(tag);
  const plaintext = decipher.update(ciphertext);
  try {
    decipher.final(); // compares the tag, in constant time
  } catch {
    return null;
  }
  return plaintext;
}

// ------------------------------------------------------------------------------------ The plaintext of a session

const META = [["flags", 1], ["schema", 2], ["shape", 4], ["id", 16],
  ["created", 6], ["renewed", 6], ["issued", 6], ["own", 4]];
const META_OCTETS = META.reduce((sum, [, octets]) => sum + octets, 0);

function encodeSession(session) {
  const meta = META.map(([field, octets]) => {
    if (!Buffer.isBuffer(session[field])) return le(session[field], octets);
    need(session[field].length === octets, `${field} is not of ${octets} octets`);
    return session[field];
  });
  return Buffer.concat([...meta, session.payload]);
}

/** The fields; null if they are not allowed (step 8 of opening). */
function decodeSession(plaintext) {
  if (plaintext.length < META_OCTETS) return null;
  const session = { payload: plaintext.subarray(META_OCTETS) };
  let at = 0;
  for (const [field, octets] of META) {
    const raw = plaintext.subarray(at, (at += octets));
    session[field] = field === "shape" || field === "id" ? raw : fromLe(raw);
  }
  return session.flags > 1n || (session.flags === 1n && session.own !== 0n) ? null : session;
}

// ---------------------------------------------------------------------------------------------------- The payload

const BITS = { u16: 16, u32: 32, u64: 64 };
const BAD = Symbol("bad payload");
const UTF8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** Whether a payload decodes, to its last octet, as postcard of a type. */
function isGood(type, payload) {
  let at = 0;
  const octets = (count) => {
    if (BigInt(count) > BigInt(payload.length - at)) throw BAD;
    return payload.subarray(at, (at += Number(count)));
  };
  const below = (limit) => {
    const [octet] = octets(1);
    if (octet >= limit) throw BAD;
    return octet;
  };
  const varint = (bits) => {
    let n = 0n;
    for (let shift = 0; shift < bits; shift += 7) {
      const octet = below(0x100);
      n |= BigInt(octet & 0x7f) << BigInt(shift);
      if (octet >= 0x80) continue;
      if (n >> BigInt(bits) !== 0n) throw BAD;
      return n;
    }
    throw BAD;
  };
  const value = (type) => {
    if (type === "bool") below(2);
    else if (type === "u8") below(0x100);
    else if (type in BITS) varint(BITS[type]);
    else if (type === "string") text(octets(varint(64)));
    else if (type.option) below(2) === 1 && value(type.option);
    else if (type.tuple) type.tuple.forEach(value);
    else if (type.seq) {
      for (let left = varint(64); left > 0n; left--) {
        const before = at;
        value(type.seq);
        if (at === before) break; // elements without octets: there may be 2^64 of them, and all are good
      }
    }
  };
  const text = (octets) => {
    try {
      UTF8.decode(octets);
    } catch {
      throw BAD;
    }
  };
  try {
    if (type !== "any") value(type);
  } catch (error) {
    if (error !== BAD) throw error;
    return false;
  }
  return type === "any" || at === payload.length;
}

// -------------------------------------------------------------------------------------------- The sign-out marker

const MARKER_OCTETS = 8;

/** The largest time of the markers that count; null without any. A time may be 0. */
function largestMarker(config, values) {
  const times = authenticate(config, "sign-out", values, [])
    .filter(({ plaintext }) => plaintext.length === MARKER_OCTETS)
    .map(({ plaintext }) => fromLe(plaintext));
  return times.reduce((most, time) => (most === null || time > most ? time : most), null);
}

// -------------------------------------------------------------------------------------------------------- Sealing

function seal({ key, suite, purpose, name, context, nonce }, plaintext) {
  need(TOKEN.test(name), "the name is not a token");
  const K = sealKey(key, suite, purpose, name, context);
  const head = Buffer.concat([le(suite.octet, 1), keyId(key)]);
  if (suite.mode === "signed") return Buffer.concat([head, plaintext, hmac(K, plaintext)]).toString("base64url");
  const N = nonce ?? randomBytes(suite.nonce);
  need(N.length === suite.nonce, "the nonce is not of 24 octets");
  return Buffer.concat([head, N, xaesSeal(K, N, plaintext)]).toString("base64url");
}

// --------------------------------------------------------------------------------------------- Finding the cookies

function trim(text) {
  const blank = (at) => text[at] === " " || text[at] === "\t";
  let [from, to] = [0, text.length];
  while (from < to && blank(from)) from++;
  while (from < to && blank(to - 1)) to--;
  return text.slice(from, to);
}

/** The values of the cookies of a name. A header is a string of one character for each octet, and so is a value. */
function find(headers, name) {
  const values = [];
  for (const header of headers) {
    for (const part of header.split(";")) {
      const equals = part.indexOf("=");
      if (equals >= 0 && trim(part.slice(0, equals)) === name) values.push(trim(part.slice(equals + 1)));
    }
  }
  return values;
}

// -------------------------------------------------------------------------------------------------------- Opening

/** Steps 1 to 5: the suite, key and octets of a value, or the class of its failure. */
function examine(config, value) {
  if (value.length > 4096) return { failure: "too_long" };
  const frame = decodeValue(value);
  if (frame === null || frame.length < 5) return { failure: "malformed" };
  const suite = SUITES.find(({ octet }) => octet === frame[0]);
  if (!suite || !config.accepts.includes(suite)) return { failure: "suite_not_accepted" };
  if (frame.length < 5 + suite.nonce + suite.end) return { failure: "malformed" };
  const key = config.byId.get(frame.toString("hex", 1, 5));
  if (!key) return { failure: "unknown_key" };
  return { suite, key, frame };
}

/** Steps 1 to 7 for each value: those that are authentic, in order. The classes of the others go to `failures`. */
function authenticate(config, purpose, values, failures) {
  const opened = [];
  let eight = 0;
  for (const value of values) {
    const { failure, suite, key, frame } = examine(config, value);
    if (failure) {
      failures.push(failure);
      continue;
    }
    const K = sealKey(key, suite, purpose, config.name, config.context);
    const body = frame.subarray(5 + suite.nonce, -suite.end);
    const end = frame.subarray(-suite.end);
    const plaintext =
      suite.mode === "encrypted" ? xaesOpen(K, frame.subarray(5, 29), body, end)
      : timingSafeEqual(hmac(K, body), end) ? body
      : null;
    if (plaintext === null) failures.push("not_authentic");
    else opened.push({ value, suite, key, plaintext });
    eight += 1;
    if (eight === 8) break;
  }
  return opened;
}

/** What comes of the values of our cookies and of the marker's: { class }, and the session if it is accepted. */
function open(config, values, markers) {
  if (values.length === 0) return { class: "absent" };
  const failures = [];
  const left = [];
  const largest = largestMarker(config, markers);
  for (const { plaintext, ...candidate } of authenticate(config, "session", values, failures)) {
    const session = decodeSession(plaintext);
    const failure = session === null ? "payload" : outOfTime(config, session); // steps 8, 9
    if (failure) failures.push(failure);
    else if (largest !== null && session.created <= largest) failures.push("signed_out"); // step 10
    else left.push({ ...candidate, ...session });
  }
  left.reverse().sort((a, b) => (a.issued < b.issued ? 1 : a.issued > b.issued ? -1 : 0)); // step 11; the sort is stable
  for (const session of left) {
    const form = config.bySchema.get(Number(session.schema)); // steps 12, 13
    if (!form) failures.push("schema");
    else if (!form.shape.equals(session.shape) || !form.good(session.payload)) failures.push("payload");
    else if (config.refuses?.equals(session.id)) return { class: "refused" };
    else return { class: "accepted", session };
  }
  return { class: furthest(failures) };
}

const openHeaders = (config, headers) => open(config, find(headers, config.name), find(headers, `${config.name}-out`));

// ------------------------------------------------------------------------------------------------- Failure classes

const CLASSES = ["too_long", "malformed", "suite_not_accepted", "unknown_key", "not_authentic", "from_the_future",
  "expired", "signed_out", "schema", "payload", "refused"];

const furthest = (failures) => CLASSES.findLast((name) => failures.includes(name));

// --------------------------------------------------------------------------------------------------------- Expiry

function outOfTime({ now, idle, absolute, maxOwn }, { renewed, issued, own }) {
  if (issued > now + 60_000n) return "from_the_future";
  const ownMs = own * SECOND < maxOwn ? own * SECOND : maxOwn;
  const ends = own > 0n ? [renewed + ownMs] : [renewed + absolute, issued + idle];
  return ends.some((end) => now >= end) ? "expired" : null;
}

// --------------------------------------------------------------------------------------------- The shape of a type

const LEAVES = ["unit", "bool", "i8", "i16", "i32", "i64", "i128", "u8", "u16", "u32", "u64", "u128", "f32", "f64",
  "char", "string", "bytes"];

const KINDS = new Map([
  ["nothing", { octet: 0x00, leaf: true }],
  ...LEAVES.map((name, i) => [name, { octet: 0x01 + i, leaf: true }]),
  ["back", { octet: 0x1f, number: true, leaf: true }],
  ["option", { octet: 0x20 }],
  ["seq", { octet: 0x21 }],
  ["map", { octet: 0x22 }],
  ["tuple", { octet: 0x23, number: true }],
  ["struct", { octet: 0x24, names: true }],
  ["enum", { octet: 0x25, names: true }],
  ["unit-variant", { octet: 0x28, leaf: true }],
  ["newtype-variant", { octet: 0x29 }],
  ["tuple-variant", { octet: 0x2a, number: true }],
  ["struct-variant", { octet: 0x2b, names: true }],
]);

/** The names of a node's line, each a JSON string behind one space. */
function parseNames(rest) {
  const names = [];
  while (rest !== "") {
    const [quoted] = rest.match(/^ "(?:[^"\\]|\\.)*"/) ?? [];
    need(quoted, "a name is not a JSON string");
    names.push(wellFormed(json(quoted)));
    rest = rest.slice(quoted.length);
  }
  return names;
}

/** One line, without its indent: { refused, octet, leaf, own }, where `own` is what the kind has behind its octet. */
function parseNode(line) {
  const [, refused, word, rest] = line.match(/^(refused )?([a-z0-9-]+)(.*)$/s) ?? [];
  const kind = KINDS.get(word);
  need(kind, `not a node: ${line}`);
  const node = { refused, word, leaf: kind.leaf, octet: kind.octet, own: Buffer.alloc(0), children: [] };
  if (kind.names) {
    const names = parseNames(rest);
    node.own = Buffer.concat([le(names.length, 4), ...names.map(lp)]);
  } else if (kind.number) {
    need(rest.startsWith(" "), `a number is missing: ${line}`);
    node.number = decimal(rest.slice(1));
    node.own = le(node.number, 4);
  } else {
    need(rest === "", `more than a node: ${line}`);
  }
  return node;
}

function parseTree(text) {
  const path = []; // from the root to the node of the last line
  for (const line of text.split("\n")) {
    const [indent] = line.match(/^ */);
    const depth = indent.length / 2;
    const lowest = path.length === 0 ? 0 : 1;
    need(Number.isInteger(depth) && depth >= lowest && depth <= path.length, `an indent is wrong: ${line}`);
    const node = parseNode(line.slice(indent.length));
    need(node.word !== "back" || (node.number >= 1n && node.number <= BigInt(depth)), `it leads nowhere: ${line}`);
    path.length = depth;
    const parent = path.at(-1);
    need(!parent?.leaf, `it cannot have children: ${parent?.word}`);
    parent?.children.push(node);
    path.push(node);
    need(path.length <= 1000, "the tree is too deep");
  }
  return path[0];
}

function encodeNode({ refused, octet, own, children }) {
  const head = Buffer.from(refused ? [0xff, octet] : [octet]);
  return Buffer.concat([head, own, le(children.length, 4), ...children.map(encodeNode)]);
}

function shapeOf(encoding) {
  return createHash("sha256").update("cookie-session shape v1").update(encoding).digest().subarray(0, 4);
}

// -------------------------------------------------------------------------------------------------------- Vectors

function decimal(text) {
  need(/^(0|[1-9][0-9]{0,19})$/.test(text) && BigInt(text) <= U64, `not a number: ${text}`);
  return BigInt(text);
}

function hex(text, octets = null) {
  const bytes = Buffer.from(text, "hex");
  need(bytes.toString("hex") === text.toLowerCase(), "not hexadecimal"); // Node's decoder stops where it is not
  need(octets === null || bytes.length === octets, `not of ${octets} octets`);
  return bytes;
}

function wellFormed(text) {
  need(typeof text === "string" && !/\p{Surrogate}/u.test(text), "not Unicode text"); // a lone surrogate has no UTF-8
  return text;
}

function json(text) {
  try {
    return JSON.parse(text);
  } catch {
    throw new Malformed("not JSON");
  }
}

function utf8(octets) {
  try {
    return UTF8.decode(octets);
  } catch {
    throw new Malformed("not UTF-8");
  }
}

const CART = { seq: "u32" };
const TYPES = new Map([
  ["15966813", { tuple: [{ option: "u64" }, CART] }],
  ["1f6c0e0b", { tuple: [CART] }],
  ["432e396c", { tuple: [] }],
]);

const READER_FIELDS = ["expect", "key", "purpose", "name", "context", "mode", "accepts", "schema", "shape", "reads",
  "idle", "absolute", "max-own", "now", "marker", "refuses", "comment"];
const SESSION_FIELDS = ["flags", "form", "id", "created", "renewed", "issued", "own", "payload"];
const VECTOR_FIELDS = [...READER_FIELDS, ...SESSION_FIELDS, "nonce", "time"];
const SHAPE_FIELDS = ["type", "encoding", "shape", "comment"];

/** The fields of a file (those that may come again as lists) and its body, of one character for each octet. */
function parseVector(file, known) {
  const fields = { key: [], reads: [] };
  let at = 0;
  for (;;) {
    const end = file.indexOf("\n", at);
    need(end >= 0, "there is no body");
    const line = utf8(file.subarray(at, end));
    at = end + 1;
    if (line === "") break;
    const [, key, text] = line.match(/^([a-z-]+): (.*)$/s) ?? [];
    need(known.includes(key), `unknown field: ${line}`);
    if (Array.isArray(fields[key])) fields[key].push(text);
    else need(!(key in fields), `twice: ${key}`), (fields[key] = text);
  }
  need(file.length > at && file.at(-1) === 0x0a, "the last LF is missing");
  return { fields, body: file.toString("latin1", at, file.length - 1) };
}

function required(fields, key) {
  need(key in fields, `there is no ${key}`);
  return fields[key];
}

function parseForm(text) {
  const [, schema, shape] = text.match(/^([0-9]+) ([0-9a-f]{8})$/) ?? [];
  need(shape && decimal(schema) < 65536n, `not a form: ${text}`);
  const type = TYPES.get(shape);
  const good = (payload) => {
    need(type, `no type is known for the shape ${shape}`);
    return isGood(type, payload);
  };
  return { schema: Number(schema), shape: hex(shape), good };
}

function vectorReader(fields) {
  const ms = (key) => decimal(required(fields, key));
  return reader({
    keys: fields.key.map((key) => hex(key, 32)),
    name: required(fields, "name"),
    context: fields.context ?? "",
    accepts: [required(fields, "mode"), ...("accepts" in fields ? [fields.accepts] : [])].map(suiteOf),
    forms: [`${required(fields, "schema")} ${required(fields, "shape")}`, ...fields.reads].map(parseForm),
    idle: ms("idle"),
    absolute: ms("absolute"),
    maxOwn: ms("max-own"),
    now: ms("now"),
    refuses: "refuses" in fields ? hex(fields.refuses, 16) : null,
  });
}

/** The fields of the cookie: a session, or { time }; null if the file has none. */
function vectorContent(fields) {
  if (![...SESSION_FIELDS, "nonce", "time"].some((key) => key in fields)) return null;
  if ("time" in fields) {
    need(!SESSION_FIELDS.some((key) => key in fields), "fields of a session beside a time");
    return { time: decimal(fields.time) };
  }
  const { schema, shape } = parseForm(required(fields, "form"));
  const payload = required(fields, "payload");
  need(payload !== "", "an empty payload is not -");
  const session = { schema: BigInt(schema), shape, id: hex(required(fields, "id"), 16) };
  session.payload = hex(payload === "-" ? "" : payload);
  session.flags = fromLe(hex(required(fields, "flags"), 1));
  for (const key of ["created", "renewed", "issued", "own"]) session[key] = decimal(required(fields, key));
  return session;
}

/** Opens, and seals if there is what to seal; whether it did. */
function checkVector(file, inHeaders) {
  const { fields, body } = parseVector(file, VECTOR_FIELDS);
  const config = vectorReader(fields);
  const expect = required(fields, "expect");
  const purpose = required(fields, "purpose");
  need(["accepted", "absent", ...CLASSES].includes(expect), `no such class: ${expect}`);
  need(["session", "sign-out"].includes(purpose), `no such purpose: ${purpose}`);
  const content = vectorContent(fields);
  let value = body;
  if (purpose === "sign-out") {
    need(!inHeaders && expect === "accepted", "a marker that is not good");
    need(content && "time" in content, "there is no time");
    const time = largestMarker(config, [body]);
    need(time === content.time, `it opens to the time ${time}`);
  } else {
    const markers = "marker" in fields ? [Buffer.from(fields.marker).toString("latin1")] : [];
    need(!(inHeaders && markers.length), "a marker beside headers");
    const { class: name, session } = inHeaders ? openHeaders(config, body.split("\n")) : open(config, [body], markers);
    need(name === expect, `it is ${name}, and not ${expect}`);
    need(session ? content && "form" in fields : !(inHeaders && content), "what is to be in it is missing, or too much");
    if (session) {
      for (const key of [...META.map(([key]) => key), "payload"]) {
        const same = Buffer.isBuffer(session[key]) ? session[key].equals(content[key]) : session[key] === content[key];
        need(same, `it opens to another ${key}`);
      }
      value = session.value;
    }
  }
  if (!content) return false;
  const frame = decodeValue(value);
  const suite = SUITES.find(({ octet }) => octet === frame?.[0]);
  const key = config.byId.get(frame?.toString("hex", 1, 5));
  need(suite && key, "it has fields, but no suite or key to seal them with");
  need("nonce" in fields === suite.nonce > 0, "a nonce is missing, or too much");
  const nonce = suite.nonce ? hex(fields.nonce, suite.nonce) : null;
  const plaintext = "time" in content ? le(content.time, MARKER_OCTETS) : encodeSession(content);
  const sealed = seal({ key, suite, purpose, name: config.name, context: config.context, nonce }, plaintext);
  need(sealed === value, "it seals to another value");
  return true;
}

function checkShape(file) {
  const { fields, body } = parseVector(file, SHAPE_FIELDS);
  const encoding = encodeNode(parseTree(utf8(Buffer.from(body, "latin1"))));
  need(encoding.equals(hex(required(fields, "encoding"))), `its encoding is ${encoding.toString("hex")}`);
  need(shapeOf(encoding).equals(hex(required(fields, "shape"))), `its shape is ${shapeOf(encoding).toString("hex")}`);
}

function vectors(dir) {
  const counts = { vectors: 0, sealed: 0, shapes: 0 };
  const failures = [];
  const check = (folder, entry) => {
    const path = join(folder, entry.name);
    try {
      need(entry.isFile() && entry.name.endsWith(".txt"), "it is not a vector");
      const file = readFileSync(join(dir, path));
      if (folder === "shape") {
        checkShape(file);
        counts.shapes += 1;
      } else {
        if (checkVector(file, folder === "headers")) counts.sealed += 1;
        counts.vectors += 1;
      }
    } catch (error) {
      failures.push(`${path}: ${error.message}`);
    }
  };
  const entries = (folder) => {
    try {
      return readdirSync(join(dir, folder), { withFileTypes: true });
    } catch (error) {
      failures.push(`${folder}: ${error.message}`);
      return [];
    }
  };
  for (const entry of entries(".")) {
    if (entry.isDirectory() && ["headers", "shape"].includes(entry.name)) {
      for (const inner of entries(entry.name)) check(entry.name, inner);
    } else if (entry.name !== "README.md") check("", entry);
  }
  failures.forEach((line) => console.log(line));
  if (failures.length === 0) console.log(`${counts.vectors} vectors, ${counts.sealed} sealed, ${counts.shapes} shapes`);
  return failures.length === 0 ? 0 : 1;
}

// ---------------------------------------------------------------------------------------------------------- Serve

/** Typed access to a request. */
function fieldsOf(request) {
  need(request !== null && typeof request === "object" && !Array.isArray(request), "not an object");
  const get = (key) => {
    need(Object.hasOwn(request, key), `there is no ${key}`);
    return request[key];
  };
  const text = (key) => wellFormed(get(key));
  const integer = (key) => {
    need(Number.isSafeInteger(get(key)), `${key} is not a whole number below 2^53`);
    return BigInt(get(key));
  };
  const list = (key) => {
    need(Array.isArray(get(key)), `${key} is not a list`);
    return get(key);
  };
  return { get, text, integer, list, octets: (key, count) => hex(text(key), count), has: (key) => get(key) !== null };
}

function checkType(type, depth = 0) {
  need(depth <= 100, "the type is too deep");
  if (["bool", "u8", "u16", "u32", "u64", "string"].includes(type) || (type === "any" && depth === 0)) return type;
  const entries = type !== null && typeof type === "object" && !Array.isArray(type) ? Object.entries(type) : [];
  need(entries.length === 1, "no such type");
  const [[kind, of]] = entries;
  need(kind === "tuple" ? Array.isArray(of) : kind === "option" || kind === "seq", "no such type");
  for (const inner of kind === "tuple" ? of : [of]) checkType(inner, depth + 1);
  return type;
}

function requestReader({ text, list, integer }) {
  const forms = list("forms").map((entry) => {
    const form = fieldsOf(entry);
    const type = checkType(form.get("type"));
    const schema = form.integer("schema");
    need(schema >= 0n && schema < 65536n, "schema is not of 16 bits");
    return { schema: Number(schema), shape: form.octets("shape", 4), good: (payload) => isGood(type, payload) };
  });
  return reader({
    keys: list("keys").map((key) => hex(wellFormed(key), 32)),
    name: text("name"),
    context: text("context"),
    accepts: list("accepts").map(suiteOf),
    forms,
    idle: integer("idle"),
    absolute: integer("absolute"),
    maxOwn: integer("max_own"),
    now: integer("now"),
  });
}

function sealFor({ text, octets, has }, purpose, plaintext) {
  const nonce = has("nonce") ? octets("nonce", 24) : null;
  const [key, suite, name, context] = [octets("key", 32), suiteOf(text("mode")), text("name"), text("context")];
  return { value: seal({ key, suite, purpose, name, context, nonce }, plaintext) };
}

const ANSWERS = new Map([
  ["key_id", ({ octets }) => ({ id: keyId(octets("key", 32)).toString("hex") })],
  ["shape", ({ text }) => {
    const encoding = encodeNode(parseTree(text("tree").replace(/\n$/, "")));
    return { encoding: encoding.toString("hex"), shape: shapeOf(encoding).toString("hex") };
  }],
  ["seal", (request) => {
    const numbers = ["flags", "schema", "created", "renewed", "issued", "own"].map((key) => [key, request.integer(key)]);
    const octets = ["shape", "id", "payload"].map((key) => [key, request.octets(key)]);
    return sealFor(request, "session", encodeSession(Object.fromEntries([...numbers, ...octets])));
  }],
  ["seal_marker", (request) => sealFor(request, "sign-out", le(decimal(request.text("time")), MARKER_OCTETS))],
  ["open", (request) => {
    const headers = request.list("headers").map((header) => hex(wellFormed(header)).toString("latin1"));
    const { class: name, session } = openHeaders(requestReader(request), headers);
    if (!session) return { class: name };
    const answer = { class: name, mode: session.suite.mode, key_id: keyId(session.key).toString("hex") };
    for (const key of [...META.map(([key]) => key), "payload"]) {
      answer[key] = Buffer.isBuffer(session[key]) ? session[key].toString("hex") : Number(session[key]);
    }
    return answer;
  }],
]);

function answer(line) {
  try {
    const request = fieldsOf(json(utf8(line)));
    const handler = ANSWERS.get(request.get("do"));
    need(handler, "no such request");
    return handler(request);
  } catch (error) {
    if (!(error instanceof Malformed)) throw error;
    return { error: error.message };
  }
}

async function serve() {
  // Not by node:readline, which takes U+2028 for the end of a line; JSON does not.
  let parts = [];
  const reply = () => {
    process.stdout.write(JSON.stringify(answer(Buffer.concat(parts))) + "\n");
    parts = [];
  };
  for await (let chunk of process.stdin) {
    for (let end; (end = chunk.indexOf(0x0a)) >= 0; chunk = chunk.subarray(end + 1)) {
      parts.push(chunk.subarray(0, end));
      reply();
    }
    if (chunk.length > 0) parts.push(chunk);
  }
  if (parts.length > 0) reply();
  return 0;
}

const [command, ...rest] = process.argv.slice(2);
if (command === "vectors" && rest.length === 1) process.exitCode = vectors(rest[0]);
else if (command === "serve" && rest.length === 0) process.exitCode = await serve();
else {
  console.error("usage: cookie_session.mjs vectors DIR | serve");
  process.exitCode = 2;
}
