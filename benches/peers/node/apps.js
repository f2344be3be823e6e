// npm's cookie-session and iron-session as their users would use them, and the bare handler: one application each.

import cookieSession from "cookie-session";
import { getIronSession } from "iron-session";
import { strict as assert } from "node:assert";
import { randomBytes } from "node:crypto";
import { IncomingMessage, ServerResponse } from "node:http";
import { Socket } from "node:net";
import { copied, look, touch, withNotes } from "./shop.js";

const NAME = "session";
const DAY = 24 * 60 * 60;
export const CASES = ["untouched", "read", "read+write", "first-write"];
const WRITES = ["read+write", "first-write"];
// Both want strings.
const secret = () => randomBytes(32).toString("base64url");
const KEYS = [secret()];
const PASSWORD = secret();

// What the bare handler of a first write makes goes here, lest it is not made at all.
let sink;

// Each peer as its users would use it. A handler returns its response, or a promise of it.
export const PEERS = {
  bare: (notes, sample) => ({
    untouched: (req, res) => res.end(),
    read: (req, res) => res.end(),
    "read+write": (req, res) => res.end(),
    // The value is made here too.
    "first-write": (req, res) => {
      sink = copied(sample);
      return res.end();
    },
  }),

  "npm-cookie-session": (notes, sample) => {
    const layer = cookieSession({
      name: NAME,
      keys: KEYS,
      maxAge: DAY * 1000,
      sameSite: "lax",
      secure: true,
    });
    const under = (handler) => (req, res) => {
      layer(req, res, () => handler(req, res));
      return res;
    };
    return {
      untouched: under((req, res) => res.end()),
      read: under((req, res) => {
        look(req.session, notes);
        res.end();
      }),
      "read+write": under((req, res) => {
        look(req.session, notes);
        touch(req.session);
        res.end();
      }),
      "first-write": under((req, res) => {
        Object.assign(req.session, copied(sample));
        res.end();
      }),
    };
  },

  // It has no middleware: a handler that does not ask for the session is the bare one. Its cryptography is WebCrypto's,
  // in other threads; the time is from the request to its response, with nothing else under way.
  "iron-session": (notes, sample) => {
    const options = { cookieName: NAME, password: PASSWORD, ttl: DAY };
    return {
      untouched: (req, res) => res.end(),
      read: async (req, res) => {
        look(await getIronSession(req, res, options), notes);
        return res.end();
      },
      "read+write": async (req, res) => {
        const session = await getIronSession(req, res, options);
        look(session, notes);
        touch(session);
        await session.save();
        return res.end();
      },
      "first-write": async (req, res) => {
        const session = await getIronSession(req, res, options);
        Object.assign(session, copied(sample));
        await session.save();
        return res.end();
      },
    };
  },
};

// One for all requests, as with keep-alive. cookie-session sends a secure cookie only where the socket is encrypted.
const socket = new Socket();
socket.encrypted = true;

// One request, and its response or a promise of it.
function exchange(handler, cookie) {
  const req = new IncomingMessage(socket);
  req.httpVersionMajor = 1;
  req.httpVersionMinor = 1;
  req.method = "GET";
  req.url = "/";
  req.headers = cookie === undefined ? {} : { cookie };
  return handler(req, new ServerResponse(req));
}

// The values of Set-Cookie in the head of a response that has ended.
function setCookies(res) {
  assert(res.headersSent && res.writableEnded);
  assert.equal(res.statusCode, 200);
  const lines = res._header.split("\r\n").filter((line) => line.toLowerCase().startsWith("set-cookie: "));
  return lines.map((line) => line.slice("set-cookie: ".length));
}

const asCookie = (values) => values.map((value) => value.slice(0, value.indexOf(";"))).join("; ");

// The session as a handler finds it.
async function found(peer, cookie) {
  let shop;
  const keep = (session) => (shop = JSON.parse(JSON.stringify(session)));
  if (peer === "iron-session") {
    const options = { cookieName: NAME, password: PASSWORD, ttl: DAY };
    await exchange(async (req, res) => keep(await getIronSession(req, res, options)), cookie);
  } else {
    const layer = cookieSession({ name: NAME, keys: KEYS });
    exchange((req, res) => layer(req, res, () => keep(req.session)), cookie);
  }
  return shop;
}

async function firstWrite(peer, notes) {
  return setCookies(await exchange(PEERS[peer](notes, withNotes(notes))["first-write"]));
}

// A peer's handler with the request that it gets again and again; what it sends is looked at once.
export async function cell(peer, kase, notes) {
  const sample = withNotes(notes);
  const handler = PEERS[peer](notes, sample)[kase];
  // The bare handler gets a cookie too.
  const first = await firstWrite(peer === "bare" ? "npm-cookie-session" : peer, notes);
  const cookie = kase === "first-write" ? undefined : asCookie(first);
  const sent = setCookies(await exchange(handler, cookie));
  assert.equal(sent.length > 0, WRITES.includes(kase) && peer !== "bare", `${peer} ${kase}`);
  if (peer !== "bare") {
    if (cookie !== undefined) assert.deepEqual(await found(peer, cookie), sample);
    if (kase === "read+write") touch(sample);
    if (sent.length > 0) assert.deepEqual(await found(peer, asCookie(sent)), sample);
  }
  const setCookie = sent.reduce((sum, value) => sum + value.length, 0);
  return { setCookie, call: () => exchange(handler, cookie) };
}

// How many notes fit into 4093 bytes of Set-Cookie: of the cookie with the value, since a browser counts each alone.
// cookie-session never refuses; what is too long, the browser drops. iron-session throws beyond 4096 bytes.
export async function mostNotes(peer) {
  const fits = async (notes) => {
    const sent = await firstWrite(peer, notes).catch((error) => {
      assert.match(error.message, /Cookie length is too big/);
      return undefined;
    });
    return sent !== undefined && sent[0].length <= 4093;
  };
  let notes = 0;
  while (await fits(notes + 1)) notes += 1;
  return notes;
}

