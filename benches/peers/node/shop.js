// The session of ../src/shop.rs, and the same strings in it.

import { strict as assert } from "node:assert";

// How many short strings, and how many bytes of postcard that makes in the Rust bench.
export const SIZES = [[0, 76], [20, 416], [90, 1606]];

export const withNotes = (notes) => ({
  user: { id: 4_000_000_000, name: "Ada, Lady Byron!" },
  roles: ["customer", "reviewer"],
  token: "0123456789abcdef0123456789abcdef",
  notes: Array.from({ length: notes }, (_, note) => `note number ${String(note).padStart(4, "0")}`),
});

// Rust's clone; the strings are shared, as strings are here.
export const copied = ({ user, roles, token, notes }) => ({
  user: { id: user.id, name: user.name },
  roles: [...roles],
  token,
  notes: [...notes],
});

// What a handler does that reads.
export function look(shop, notes) {
  if (shop.notes.length !== notes || shop.user === undefined) throw new Error("another session");
}

// What a handler does that writes.
export function touch(shop) {
  shop.user.id += 1;
}

// The length in postcard shows that it is the same session: lengths and numbers are varints, an Option is one byte.
function postcard({ user, roles, token, notes }) {
  const varint = (value) => Math.max(1, Math.ceil(value.toString(2).length / 7));
  const string = (value) => varint(value.length) + value.length;
  const list = (values) => values.reduce((sum, value) => sum + string(value), varint(values.length));
  return 1 + varint(user.id) + string(user.name) + list(roles) + string(token) + list(notes);
}

for (const [notes, bytes] of SIZES) assert.equal(postcard(withNotes(notes)), bytes);
