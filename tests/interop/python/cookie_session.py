"""Version 1 of cookie-session's wire format, written from the page `src/docs/wire_format.md` alone.

It is there for tests: it shows that the page is enough, and the crate is tested against it. It is not for
production. It makes and reads the values of cookies; `Set-Cookie` and its attributes are not its business.

    cookie_session.py vectors DIR    checks the vectors in DIR
    cookie_session.py serve          answers requests, one JSON object a line

The sections are those of the page.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

# --- Conventions ------------------------------------------------------------------------------------------

LATEST = 2**48 - 1
TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")


def u(octets: int, number: int) -> bytes:
    return number.to_bytes(octets, "little")


def lp(octets: bytes) -> bytes:
    return u(4, len(octets)) + octets


@dataclass(frozen=True)
class Form:
    shape: bytes
    type: Postcard


@dataclass(frozen=True)
class Reader:
    keys: list[Key]
    name: str
    context: str
    accepts: set[int]
    forms: dict[int, Form]
    idle: int
    absolute: int
    max_own: int
    now: int
    refuses: bytes | None = None

    def __post_init__(self) -> None:
        if not self.keys or not self.accepts or not self.forms:
            raise ValueError("a reader has a key, a suite and a form")
        if len({key.id for key in self.keys}) < len(self.keys):
            raise ValueError("two keys have one key id")
        second, longest = 1000, 400 * 24 * 60 * 60 * 1000
        if not all(second <= lifetime <= longest for lifetime in (self.idle, self.absolute, self.max_own)):
            raise ValueError("a lifetime is a second to 400 days")
        if self.idle > self.absolute:
            raise ValueError("the idle timeout is at most the absolute one")
        check_texts(self.name, self.context)

    def clock(self) -> int:
        return min(max(self.now, 0), LATEST)


def check_texts(name: str, context: str) -> None:
    if not TOKEN.fullmatch(name):
        raise ValueError("the name is not a token")
    context.encode("utf-8")  # fails with a ValueError where there is a lone surrogate


# --- Grammar ----------------------------------------------------------------------------------------------

ENCRYPTED, SIGNED = 0x01, 0x02
MODES = {"encrypted": ENCRYPTED, "signed": SIGNED}
MODE_OF = {suite: mode for mode, suite in MODES.items()}
SHORTEST = {ENCRYPTED: 1 + 4 + 24 + 16, SIGNED: 1 + 4 + 32}

# Python's own decoder drops what is not in the alphabet, and bits that are left over.
COOKIE_VALUE = re.compile(
    rb"(?:[A-Za-z0-9_-]{4})*"
    rb"(?:[A-Za-z0-9_-][AQgw]|[A-Za-z0-9_-]{2}[AEIMQUYcgkosw048])?"
)


def frame_of(value: bytes) -> bytes | None:
    if not COOKIE_VALUE.fullmatch(value):
        return None
    return base64.urlsafe_b64decode(value + b"=" * (-len(value) % 4))


def value_of(frame: bytes) -> str:
    return base64.urlsafe_b64encode(frame).rstrip(b"=").decode("ascii")


# --- Key schedule -----------------------------------------------------------------------------------------

LABEL = lp(b"cookie-session/v1")


class Key:
    def __init__(self, octets: bytes) -> None:
        if len(octets) != 32:
            raise ValueError("a key is 32 octets")
        self._prk = hmac.digest(bytes(32), octets, hashlib.sha256)
        self.id = self._expand(LABEL + lp(b"key-id"), 4)

    def _expand(self, info: bytes, length: int) -> bytes:
        return HKDFExpand(algorithm=SHA256(), length=length, info=info).derive(self._prk)

    def seal_key(self, suite: int, purpose: str, name: str, context: str) -> bytes:
        parts = (u(1, suite), purpose.encode(), name.encode(), context.encode())
        return self._expand(LABEL + b"".join(map(lp, parts)), 32)


def aes_256(key: bytes, block: bytes) -> bytes:
    return Cipher(algorithms.AES(key), modes.ECB()).encryptor().update(block)


def xaes_256_gcm(key: bytes, nonce: bytes) -> tuple[AESGCM, bytes]:
    """AES-256-GCM under the derived key, and the nonce for it."""
    block = int.from_bytes(aes_256(key, bytes(16)), "big")
    k1 = (block << 1) % 2**128 ^ (0x87 if block >> 127 else 0)
    halves = (bytes([0, i, 0x58, 0]) + nonce[:12] for i in (1, 2))
    kx = b"".join(aes_256(key, (int.from_bytes(m, "big") ^ k1).to_bytes(16, "big")) for m in halves)
    return AESGCM(kx), nonce[12:]


def unseal(frame: bytes, seal_key: bytes) -> bytes | None:
    if frame[0] == ENCRYPTED:
        cipher, nonce = xaes_256_gcm(seal_key, frame[5:29])
        try:
            return cipher.decrypt(nonce, frame[29:], None)
        except InvalidTag:
            return None
    plaintext, mac = frame[5:-32], frame[-32:]
    return plaintext if hmac.compare_digest(mac, hmac.digest(seal_key, plaintext, hashlib.sha256)) else None


# --- The plaintext of a session ---------------------------------------------------------------------------

FIELDS = {"flags": 1, "schema": 2, "shape": 4, "id": 16, "created": 6, "renewed": 6, "issued": 6, "own": 4}
META = sum(FIELDS.values())
OPAQUE = ("shape", "id")  # octets; the others are numbers


@dataclass(frozen=True)
class Session:
    flags: int
    schema: int
    shape: bytes
    id: bytes
    created: int
    renewed: int
    issued: int
    own: int
    payload: bytes

    def plaintext(self) -> bytes:
        fields = ((getattr(self, name), octets) for name, octets in FIELDS.items())
        meta = (field if isinstance(field, bytes) else u(octets, field) for field, octets in fields)
        return b"".join(meta) + self.payload

    @staticmethod
    def of(plaintext: bytes) -> Session | None:
        if len(plaintext) < META:
            return None
        fields: dict[str, Any] = {}
        at = 0
        for name, octets in FIELDS.items():
            field = plaintext[at : at + octets]
            fields[name] = field if name in OPAQUE else int.from_bytes(field, "little")
            at += octets
        session = Session(**fields, payload=plaintext[META:])
        good = session.flags == 0 or (session.flags == 1 and session.own == 0)
        return session if good else None


# --- The payload ------------------------------------------------------------------------------------------

# A leaf, ("option", T), ("seq", T) or ("tuple", [T]). "any" is not postcard: every payload is good.
Postcard = str | tuple[str, Any]
LEAVES = ("bool", "u8", "u16", "u32", "u64", "string")
UNIT: Postcard = ("tuple", [])


class NotPostcard(Exception):
    pass


def postcard_type(json_type: Any) -> Postcard:
    if isinstance(json_type, str) and json_type in LEAVES:
        return json_type
    if isinstance(json_type, dict) and len(json_type) == 1:
        [(kind, content)] = json_type.items()
        if kind in ("option", "seq"):
            return kind, postcard_type(content)
        if kind == "tuple" and isinstance(content, list):
            # Without its units a tuple has no field that takes no octet, so that decoding takes no longer
            # than the payload is long.
            return kind, [field for field in map(postcard_type, content) if field != UNIT]
    raise ValueError("no such type")


def is_payload_of(wanted: Postcard, payload: bytes) -> bool:
    if wanted == "any":
        return True
    try:
        return end_of(wanted, payload, 0) == len(payload)
    except NotPostcard:
        return False


def end_of(wanted: Postcard, data: bytes, at: int) -> int:
    match wanted:
        case "bool":
            return number_at(data, at, 1)[1]
        case "u8":
            return octet_at(data, at)[1]
        case "u16" | "u32" | "u64":
            return number_at(data, at, int(wanted[1:]))[1]
        case "string":
            length, at = number_at(data, at, 64)
            if length > len(data) - at:
                raise NotPostcard
            try:
                data[at : at + length].decode("utf-8")
            except UnicodeDecodeError:
                raise NotPostcard from None
            return at + length
        case ("option", content):
            some, at = octet_at(data, at)
            if some > 1:
                raise NotPostcard
            return end_of(content, data, at) if some else at
        case ("seq", element):
            count, at = number_at(data, at, 64)
            for _ in range(count if element != UNIT else 0):
                at = end_of(element, data, at)
            return at
        case ("tuple", fields):
            for field in fields:
                at = end_of(field, data, at)
            return at
    raise AssertionError(wanted)


def octet_at(data: bytes, at: int) -> tuple[int, int]:
    if at >= len(data):
        raise NotPostcard
    return data[at], at + 1


def number_at(data: bytes, at: int, bits: int) -> tuple[int, int]:
    number = 0
    for i in range(-(-bits // 7)):
        octet, at = octet_at(data, at)
        number |= (octet & 0x7F) << 7 * i
        if octet < 0x80:
            if number >> bits:
                raise NotPostcard
            return number, at
    raise NotPostcard


# --- The sign-out marker ----------------------------------------------------------------------------------


def marker_name(name: str) -> str:
    return name + "-out"


def largest_marker(reader: Reader, values: Iterable[bytes]) -> int | None:
    opened = (found for found in authentic(reader, "sign-out", values) if isinstance(found, Authentic))
    times = (int.from_bytes(found.plaintext, "little") for found in opened if len(found.plaintext) == 8)
    return max(times, default=None)


# --- Sealing ----------------------------------------------------------------------------------------------


def seal(
    key: Key, suite: int, purpose: str, name: str, context: str, plaintext: bytes, nonce: bytes | None = None
) -> str:
    check_texts(name, context)
    seal_key = key.seal_key(suite, purpose, name, context)
    if suite == SIGNED:
        sealed = plaintext + hmac.digest(seal_key, plaintext, hashlib.sha256)
    else:
        nonce = os.urandom(24) if nonce is None else nonce
        cipher, gcm_nonce = xaes_256_gcm(seal_key, nonce)
        sealed = nonce + cipher.encrypt(gcm_nonce, plaintext, None)
    return value_of(u(1, suite) + key.id + sealed)


# --- Finding the cookies ----------------------------------------------------------------------------------


def values_of(name: str, headers: Iterable[bytes]) -> list[bytes]:
    values = []
    for header in headers:
        for part in header.split(b";"):
            found, equals, value = part.partition(b"=")
            if equals and found.strip(b" \t") == name.encode():
                values.append(value.strip(b" \t"))
    return values


# --- Opening ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Authentic:
    value: bytes
    suite: int
    key: Key
    plaintext: bytes


@dataclass(frozen=True)
class Accepted:
    cookie: Authentic
    session: Session


def frame_and_key(reader: Reader, value: bytes) -> tuple[bytes, Key] | str:
    """Steps 1 to 5."""
    if len(value) > 4096:
        return "too_long"
    frame = frame_of(value)
    if frame is None or len(frame) < 5:
        return "malformed"
    if frame[0] not in reader.accepts:
        return "suite_not_accepted"
    if len(frame) < SHORTEST[frame[0]]:
        return "malformed"
    for key in reader.keys:
        if key.id == frame[1:5]:
            return frame, key
    return "unknown_key"


def authentic(reader: Reader, purpose: str, values: Iterable[bytes]) -> Iterator[Authentic | str]:
    """Steps 1 to 7, for each value that is looked at: what is in it, or the class."""
    passed = 0
    for value in values:
        found = frame_and_key(reader, value)
        if isinstance(found, str):
            yield found
            continue
        frame, key = found
        plaintext = unseal(frame, key.seal_key(frame[0], purpose, reader.name, reader.context))
        yield "not_authentic" if plaintext is None else Authentic(value, frame[0], key, plaintext)
        passed += 1
        if passed == 8:
            return


def open_cookies(reader: Reader, headers: list[bytes]) -> Accepted | str:
    sessions, markers = (values_of(name, headers) for name in (reader.name, marker_name(reader.name)))
    return open_values(reader, sessions, markers)


def open_values(reader: Reader, values: Iterable[bytes], markers: Iterable[bytes]) -> Accepted | str:
    classes = ["absent"]
    left: list[Accepted] = []
    marker = largest_marker(reader, markers)
    for cookie in authentic(reader, "session", values):
        if isinstance(cookie, str):
            classes.append(cookie)
        elif (session := Session.of(cookie.plaintext)) is None:
            classes.append("payload")
        elif failure := time_failure(reader, session):
            classes.append(failure)
        elif marker is not None and session.created <= marker:
            classes.append("signed_out")
        else:
            left.append(Accepted(cookie, session))

    # Sorting keeps the order of equals, and of those the later one comes first.
    for accepted in sorted(reversed(left), key=lambda found: found.session.issued, reverse=True):
        session = accepted.session
        form = reader.forms.get(session.schema)
        if form is None:
            classes.append("schema")
        elif form.shape != session.shape or not is_payload_of(form.type, session.payload):
            classes.append("payload")
        elif session.id == reader.refuses:
            classes.append("refused")
            break
        else:
            return accepted
    return max(classes, key=CLASSES.index)


# --- Failure classes --------------------------------------------------------------------------------------

CLASSES = (
    "absent too_long malformed suite_not_accepted unknown_key not_authentic from_the_future expired"
    " signed_out schema payload refused"
).split()


# --- Expiry -----------------------------------------------------------------------------------------------


def time_failure(reader: Reader, session: Session) -> str | None:
    now = reader.clock()
    if session.issued > now + 60_000:
        return "from_the_future"
    if session.own > 0:
        ends = [session.renewed + min(session.own * 1000, reader.max_own)]
    else:
        ends = [session.issued + reader.idle, session.renewed + reader.absolute]
    return "expired" if now >= min(ends) else None


# --- The shape of a type ----------------------------------------------------------------------------------

LEAF_WORDS = "unit bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char string bytes".split()
LEAF_KINDS = {word: kind for kind, word in enumerate(LEAF_WORDS, 0x01)}
CHILDLESS_KINDS = {"nothing": 0x00, "unit-variant": 0x28} | LEAF_KINDS
PLAIN_KINDS = CHILDLESS_KINDS | {"option": 0x20, "seq": 0x21, "map": 0x22, "newtype-variant": 0x29}
NUMBERED_KINDS = {"back": 0x1F, "tuple": 0x23, "tuple-variant": 0x2A}
NAMED_KINDS = {"struct": 0x24, "enum": 0x25, "struct-variant": 0x2B}


def node_head(text: str) -> bytes:
    """What stands before the count of the children."""
    word, space, rest = text.partition(" ")
    if word in PLAIN_KINDS and not space:
        return u(1, PLAIN_KINDS[word])
    if word in NUMBERED_KINDS:
        return u(1, NUMBERED_KINDS[word]) + u(4, decimal(rest, 2**32))
    if word in NAMED_KINDS:
        names, at = [], len(word)
        while at < len(text):
            if not text.startswith(' "', at):
                break
            name, at = json.JSONDecoder().raw_decode(text, at + 1)
            names.append(lp(name.encode("utf-8")))
        else:
            return u(1, NAMED_KINDS[word]) + u(4, len(names)) + b"".join(names)
    raise ValueError(f"no such node: {text[:40]!r}")


def encoding_of(tree: str) -> bytes:
    """Without recursion: the nodes stand in the order of their lines, only the counts come from below."""
    heads: list[bytes] = []
    counts: list[int] = []
    path: list[tuple[int, bool]] = []  # the node's place in the lists, and whether it may have children
    for line in tree.removesuffix("\n").split("\n"):
        node = line.lstrip(" ")
        depth, odd = divmod(len(line) - len(node), 2)
        if odd or depth > len(path) or (depth == 0 and heads):
            raise ValueError("a line that is below none")
        del path[depth:]
        if path:
            parent, may_have_children = path[-1]
            if not may_have_children:
                raise ValueError("a child of what has none")
            counts[parent] += 1
        kind = node.removeprefix("refused ")
        path.append((len(heads), kind not in CHILDLESS_KINDS and not kind.startswith("back ")))
        heads.append((b"\xff" if kind != node else b"") + node_head(kind))
        counts.append(0)
    return b"".join(head + u(4, count) for head, count in zip(heads, counts, strict=True))


def shape_of(encoding: bytes) -> bytes:
    return hashlib.sha256(b"cookie-session shape v1" + encoding).digest()[:4]


# --- Vectors ----------------------------------------------------------------------------------------------

TYPES: dict[str, Postcard] = {
    "15966813": ("tuple", [("option", "u64"), ("seq", "u32")]),
    "1f6c0e0b": ("tuple", [("seq", "u32")]),
    "432e396c": UNIT,
}
READER = set("expect key purpose name mode schema shape idle absolute max-own now".split())
MAY_HAVE = set("context accepts reads marker refuses comment nonce".split())
SESSION = set("flags form id created renewed issued own payload".split())
SHAPE = {"type", "encoding", "shape"}


def decimal(text: str, below: int) -> int:
    if not re.fullmatch("[0-9]{1,20}", text) or int(text) >= below:
        raise ValueError(f"no such number: {text[:40]!r}")
    return int(text)


def unhex(text: str, length: int | None = None) -> bytes:
    if not re.fullmatch("[0-9A-Fa-f]*", text) or len(text) % 2 or length not in (None, len(text) // 2):
        raise ValueError(f"not as many hexadecimal digits: {text[:40]!r}")
    return bytes.fromhex(text)


def mode(name: str) -> int:
    if name not in MODES:
        raise ValueError("no such mode")
    return MODES[name]


def forms_of(forms: Iterable[tuple[int, bytes, Postcard]]) -> dict[int, Form]:
    found: dict[int, Form] = {}
    for schema, shape, wanted in forms:
        if schema in found:
            raise ValueError("two forms have one schema number")
        found[schema] = Form(shape, wanted)
    return found


class Vector:
    def __init__(self, file: bytes) -> None:
        head, blank, body = file.partition(b"\n\n")
        if not blank or not body.endswith(b"\n"):
            raise ValueError("no body")
        self.body = body[:-1]
        self.lists: dict[str, list[str]] = {}
        for line in head.decode("utf-8").split("\n"):
            key, colon, text = line.partition(": ")
            if not colon or (key in self.lists and key not in ("key", "reads")):
                raise ValueError(f"no field, or one that was there: {line!r}")
            self.lists.setdefault(key, []).append(text)
        self.fields = {key: texts[0] for key, texts in self.lists.items()}

    def expect_fields(self, needed: set[str], others: set[str]) -> None:
        if wrong := (needed - set(self.fields)) | (set(self.fields) - needed - others):
            raise ValueError(f"missing or unknown: {', '.join(sorted(wrong))}")

    def number(self, field: str, below: int = 2**64) -> int:
        return decimal(self.fields[field], below)

    def octets(self, field: str, length: int | None = None) -> bytes:
        return unhex(self.fields[field], length)

    def reader(self) -> Reader:
        forms = [f"{self.fields['schema']} {self.fields['shape']}", *self.lists.get("reads", [])]
        return Reader(
            keys=[Key(unhex(key)) for key in self.lists["key"]],
            name=self.fields["name"],
            context=self.fields.get("context", ""),
            accepts={mode(self.fields["mode"]), mode(self.fields.get("accepts", self.fields["mode"]))},
            forms=forms_of((schema, shape, TYPES[shape.hex()]) for schema, shape in map(parse_form, forms)),
            idle=self.number("idle"),
            absolute=self.number("absolute"),
            max_own=self.number("max-own"),
            now=self.number("now"),
            refuses=self.octets("refuses", 16) if "refuses" in self.fields else None,
        )

    def plaintext(self) -> bytes | None:
        if "time" in self.fields:
            return u(8, self.number("time"))
        if "flags" not in self.fields:
            return None
        return Session(
            int.from_bytes(self.octets("flags", 1), "little"),
            *parse_form(self.fields["form"]),
            self.octets("id", 16),
            *(self.number(time, 2**48) for time in ("created", "renewed", "issued")),
            self.number("own", 2**32),
            b"" if self.fields["payload"] == "-" else self.octets("payload"),
        ).plaintext()


def parse_form(text: str) -> tuple[int, bytes]:
    schema, _, shape = text.partition(" ")
    return decimal(schema, 2**16), unhex(shape, 4)


def expect(what: str, found: object, wanted: object) -> None:
    if found != wanted:
        raise ValueError(f"{what} is {found}, and not {wanted}")


def check_shape(vector: Vector) -> None:
    vector.expect_fields(SHAPE, {"comment"})
    encoding = encoding_of(vector.body.decode("utf-8"))
    expect("encoding", encoding.hex(), vector.fields["encoding"])
    expect("shape", shape_of(encoding).hex(), vector.fields["shape"])


def check_cookies(vector: Vector, are_headers: bool) -> bool:
    """Whether it was sealed, too."""
    sealed = {"time"} if "time" in vector.fields else SESSION if "flags" in vector.fields else set()
    vector.expect_fields(READER | sealed, MAY_HAVE)
    reader, plaintext, purpose = vector.reader(), vector.plaintext(), vector.fields["purpose"]
    found: Authentic | str
    if purpose == "sign-out":
        [found] = authentic(reader, purpose, [vector.body])
    elif purpose == "session":
        markers = [vector.fields["marker"].encode()] if "marker" in vector.fields else []
        opened = (
            open_cookies(reader, vector.body.split(b"\n")) if are_headers
            else open_values(reader, [vector.body], markers)
        )  # fmt: skip
        found = opened if isinstance(opened, str) else opened.cookie
    else:
        raise ValueError("no such purpose")
    expect("class", found if isinstance(found, str) else "accepted", vector.fields["expect"])
    if isinstance(found, Authentic):
        expect("plaintext", found.plaintext, plaintext)
    if plaintext is None:
        return False

    value = vector.body if isinstance(found, str) else found.value
    frame = frame_of(value) or b""
    [key] = [key for key in reader.keys if key.id == frame[1:5]]
    nonce = vector.octets("nonce", 24) if frame[0] == ENCRYPTED else None
    again = seal(key, frame[0], purpose, reader.name, reader.context, plaintext, nonce)
    expect("what it is sealed to", again, value.decode())
    return True


def check_vectors(folder: Path) -> int:
    failures = []
    vectors = sealed = shapes = 0
    for path in sorted(folder.rglob("*")):
        if path.is_dir() or path.name == "README.md":
            continue
        try:
            kind = path.parent.name if path.parent.name in ("headers", "shape") else ""
            if path.suffix != ".txt" or not (kind or path.parent == folder):
                raise ValueError("not a vector")
            vector = Vector(path.read_bytes())
            if kind == "shape":
                check_shape(vector)
                shapes += 1
            else:
                sealed += check_cookies(vector, are_headers=kind == "headers")
                vectors += 1
        except (ValueError, KeyError) as error:
            failures.append(f"{path.relative_to(folder)}: {error!r}")
    if vectors + shapes == 0 and not failures:
        failures.append("there are no vectors")
    print("\n".join(failures) or f"{vectors} vectors, {sealed} sealed, {shapes} shapes")
    return 1 if failures else 0


# --- Requests ---------------------------------------------------------------------------------------------


class Request:
    def __init__(self, fields: Any) -> None:
        if not isinstance(fields, dict):
            raise ValueError("not an object")
        self.fields = fields

    def get(self, field: str, kind: type) -> Any:
        found = self.fields.get(field)
        if type(found) is not kind:  # a bool is not a number
            raise ValueError(f"missing, or of another type: {field}")
        return found

    def texts(self, field: str) -> list[str]:
        found: list[str] = self.get(field, list)
        if not all(isinstance(text, str) for text in found):
            raise ValueError(f"not texts: {field}")
        return found

    def number(self, field: str, below: int = 2**64) -> int:
        number: int = self.get(field, int)
        if not 0 <= number < below:
            raise ValueError(f"out of range: {field}")
        return number

    def octets(self, field: str, length: int | None = None) -> bytes:
        return unhex(self.get(field, str), length)

    def seal(self, purpose: str, plaintext: bytes) -> dict[str, Any]:
        key, suite = Key(self.octets("key")), mode(self.get("mode", str))
        nonce = None if self.fields.get("nonce") is None else self.octets("nonce", 24)
        name, context = self.get("name", str), self.get("context", str)
        return {"value": seal(key, suite, purpose, name, context, plaintext, nonce)}

    def session(self) -> Session:
        fields: dict[str, Any] = {
            field: self.octets(field, length) if field in OPAQUE else self.number(field, 256**length)
            for field, length in FIELDS.items()
        }
        return Session(**fields, payload=self.octets("payload"))

    def form(self) -> tuple[int, bytes, Postcard]:
        wanted = self.fields.get("type")
        postcard = wanted if wanted == "any" else postcard_type(wanted)
        return self.number("schema", 2**16), self.octets("shape", 4), postcard

    def reader(self) -> Reader:
        return Reader(
            keys=[Key(unhex(key)) for key in self.texts("keys")],
            name=self.get("name", str),
            context=self.get("context", str),
            accepts={mode(name) for name in self.texts("accepts")},
            forms=forms_of(Request(form).form() for form in self.get("forms", list)),
            idle=self.number("idle"),
            absolute=self.number("absolute"),
            max_own=self.number("max_own"),
            now=self.get("now", int),
        )

    def open(self) -> dict[str, Any]:
        opened = open_cookies(self.reader(), [unhex(header) for header in self.texts("headers")])
        if isinstance(opened, str):
            return {"class": opened}
        answer = {"class": "accepted", "mode": MODE_OF[opened.cookie.suite], "key_id": opened.cookie.key.id}
        answer |= vars(opened.session)
        return {key: value.hex() if isinstance(value, bytes) else value for key, value in answer.items()}

    def answer(self) -> dict[str, Any]:
        match self.get("do", str):
            case "key_id":
                return {"id": Key(self.octets("key")).id.hex()}
            case "shape":
                encoding = encoding_of(self.get("tree", str))
                return {"encoding": encoding.hex(), "shape": shape_of(encoding).hex()}
            case "seal":
                return self.seal("session", self.session().plaintext())
            case "seal_marker":
                return self.seal("sign-out", u(8, decimal(self.get("time", str), 2**64)))
            case "open":
                return self.open()
        raise ValueError("no such request")


def serve() -> int:
    for line in sys.stdin.buffer:
        try:
            answer = Request(json.loads(line.decode("utf-8"))).answer()
        except (ValueError, RecursionError) as error:
            answer = {"error": str(error)}
        print(json.dumps(answer), flush=True)
    return 0


def main(arguments: list[str]) -> int:
    match arguments:
        case ["vectors", folder]:
            return check_vectors(Path(folder))
        case ["serve"]:
            return serve()
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
