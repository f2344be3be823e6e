//! The fingerprint of a type, so that a cookie written by another form of it is refused instead of
//! misread.
//!
//! postcard does not describe itself, so [`outline_of`] drives `T::deserialize` with a deserializer
//! that calls visitors exactly as postcard's does, feeds them made-up values, and grows a tree of
//! what was asked for: one [`Node`] per value on the wire. The tree is kept over many runs from
//! the root:
//!
//! * An enum, option, sequence or map is a *branch*. A run takes its first alternative that is not
//!   yet explored, else one that is known to pass. (Those of a sequence are: one element; none.)
//! * A type met inside itself is a back-reference. It fails until the outer occurrence has passed
//!   once by another way; from then on it is fed what passed there (a *replay*, which grows
//!   nothing), so that what follows it is traced too.
//! * A value that is refused starts a *search*: each choice made inside the innermost value that
//!   failed, the last one first, is replaced by its alternatives in turn, while all others are
//!   held. If none helps, that value is marked as refused, and what follows in the values around
//!   it, up to the next branch, is covered by names and counts alone.
//!
//! Runs and work are bounded; what the bounds cut off is covered in the same way. The values fed
//! in are never hashed, only the tree is. A type whose `Deserialize` depends on the platform (as
//! that of `OsString` does) has a shape that does.
//!
//! Beside that it is noted whether all readers that were met are serde's own or derived: see
//! [`Outline::plain`].
//!
//! How the tree is encoded and hashed stands on the page of the wire format (`docs/wire_format.md`), of
//! which everything above is a part, too.

use crate::encode::{Calls, tag};
use serde::{
    Deserializer,
    de::{self, DeserializeOwned, DeserializeSeed, IntoDeserializer, Visitor, value::U32Deserializer},
    forward_to_deserialize_any,
};
use sha2::{Digest as _, Sha256};
use std::{any::type_name, collections::BTreeMap, fmt, ops::Range, vec};

/// The fingerprint of a session type: what its cookies look like inside.
///
/// Covers field and variant names with their order, and the type of every value on the wire. The
/// names of types are not part of it: a renamed struct keeps its shape. Written as eight
/// hexadecimal digits, so that a test can pin it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Shape([u8; 4]);

impl Shape {
    /// The four bytes as they stand in a sealed session.
    pub const fn to_bytes(self) -> [u8; 4] {
        self.0
    }

    pub(crate) const fn from_bytes(bytes: [u8; 4]) -> Shape {
        Shape(bytes)
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", u32::from_be_bytes(self.0))
    }
}

impl fmt::Debug for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Why a type has no shape, and cannot live in a session at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unsupported {
    /// It looks at the data to learn what it is (`serde_json::Value`, untagged and internally
    /// tagged enums, `flatten`); postcard cannot tell.
    NotSelfDescribing {
        /// The innermost type that asked, as far as it can be told from the outside.
        type_name: &'static str,
    },
}

/// What tracing tells of a type.
pub(crate) struct Outline {
    pub(crate) encoding: Vec<u8>,
    /// Whether all that reads the type is serde's own for types of the standard library, or derived
    /// without `with`, `from`, `transparent` and the like, or `SessionMap`: such readers refuse and
    /// change nothing that can stand in a value. Told by the names that the compiler gives to
    /// visitors, which it may change: then it is `false`, which costs time alone. A newtype is never
    /// plain, since what its one field is read with does not show.
    pub(crate) plain: bool,
}

impl Outline {
    pub(crate) fn shape(&self) -> Shape {
        let digest =
            Sha256::new().chain_update("cookie-session shape v1").chain_update(&self.encoding).finalize();
        let [a, b, c, d, ..]: [u8; 32] = digest.into();
        Shape([a, b, c, d])
    }
}

/// Traces `T`. Deterministic if `T` is. A panic in `T`'s own code goes through to the caller.
/// `seen` gets each value that came of it, with what was read for it: one with each variant, and with each option,
/// sequence and number both filled and empty.
pub(crate) fn outline_of<T: DeserializeOwned>(
    mut seen: impl FnMut(T, Calls),
) -> Result<Outline, Unsupported> {
    let mut trace = Trace::default();
    trace.nodes.push(Node::default());
    let root = Slot { node: ROOT, replay: false };
    let mut run = |trace: &mut Trace| {
        trace.calls = Calls::default();
        if let Ok(value) = trace.fill(root, type_name::<T>(), |tracer| T::deserialize(tracer)) {
            seen(value, trace.calls);
        }
    };
    trace.explore(&mut run)?;
    let mut encoding = Vec::new();
    trace.encode(ROOT, &mut encoding);
    let plain = trace.is_plain();
    trace.vary(&mut run);
    Ok(Outline { encoding, plain })
}

// Bounds, part of the algorithm like all the rest. An ordinary session takes some tens of runs; the
// budget ends in a fraction of a second.
const RUNS: usize = 4096;
const NODES: usize = 1 << 14;
const TRIES: usize = 512;
const BUDGET: usize = 1 << 24;
const VISIT: usize = 16; // what a filled slot costs of the budget; a node looked at by `refresh` costs 1
const DEPTH: usize = 160; // entries in `Trace::asked`; a struct within a struct has two

// What is fed, in order: 1 passes for `NonZero`, days and months, 16 bytes for a UUID. What is
// appended here changes only shapes with a refusal in them.
const INTEGERS: [i128; 23] =
    [1, 0, 2, 3, 4, 5, 7, 8, 10, 12, 16, 20, 32, 64, 100, 200, 255, 256, 1000, 1024, 1970, 65_536, -1];
const FLOATS: [f32; 7] = [1.0, 0.0, 0.5, 2.0, 10.0, 100.0, -1.0];
const CHARS: [char; 6] = ['a', 'A', '0', '1', ' ', '-'];
#[rustfmt::skip]
const STRINGS: [&str; 48] = [
    "", "a", "1", "1970-01-01", "1970-01-01T00:00:00Z", "00:00:00", "1970-01-01T00:00:00",
    "http://a/", "00000000-0000-4000-8000-000000000000", "127.0.0.1", "::1", "127.0.0.1:80",
    "[::1]:80", "10.0.0.0/8", "fd00::/8", "1.0.0", "a@example.com", "example.com", "UTC", "PT1S",
    "P1D", "1s", "1970-01-01T00:00:00+00:00[UTC]", "1970-01-01 00:00:00",
    "1970-01-01 00:00:00 UTC", "1970-01-01T00:00:00.000000000Z",
    "Thu, 01 Jan 1970 00:00:00 +0000", "1970-01", "1970-W01-4", "+00:00", "en", "en-US", "US",
    "USD", "EUR", "/", "GET", "text/plain", "#000000", "+14155552671",
    "01ARZ3NDEKTSV4RRFFQ69G5FAV", "Mon", "January", "true", "AAAA",
    "00000000000000000000000000000000", "0000000000000000000000000000000000000000",
    "0000000000000000000000000000000000000000000000000000000000000000",
];
const BYTE_LENGTHS: [usize; 20] = [16, 0, 4, 6, 8, 12, 20, 32, 64, 1, 2, 3, 5, 24, 28, 33, 48, 65, 96, 128];
static BYTES: [u8; 128] = [1; 128];
const LENGTHS: [usize; 12] = [1, 0, 2, 3, 4, 6, 8, 9, 12, 16, 32, 64];

/// Where the reader of a `SessionMap`'s values is.
const MAP: &str = concat!(env!("CARGO_CRATE_NAME"), "::map::");

const SETS: [&str; 3] = [
    "alloc::collections::btree::set::",
    "std::collections::hash::set::",
    "alloc::collections::binary_heap::",
];

const ROOT: usize = 0;

type Names = &'static [&'static str];

/// What a node was asked to be.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Its tag, and how many values there are to try.
    Leaf(u8, usize),
    BackRef {
        up: u32,
        target: usize,
    },
    Option,
    Seq,
    Map,
    Tuple(usize),
    Struct(Names),
    Enum(Names),
    UnitVariant,
    NewtypeVariant,
    TupleVariant(usize),
    StructVariant(Names),
}

impl Kind {
    fn tag(self) -> u8 {
        match self {
            Kind::Leaf(tag, _) => tag,
            Kind::BackRef { .. } => 0x1f,
            Kind::Option => tag::OPTION,
            Kind::Seq => tag::SEQ,
            Kind::Map => tag::MAP,
            Kind::Tuple(_) => tag::TUPLE,
            Kind::Struct(_) => tag::STRUCT,
            Kind::Enum(_) => tag::ENUM,
            Kind::UnitVariant => 0x28,
            Kind::NewtypeVariant => 0x29,
            Kind::TupleVariant(_) => 0x2a,
            Kind::StructVariant(_) => 0x2b,
        }
    }

    fn choices(self) -> usize {
        match self {
            Kind::Leaf(_, candidates) => candidates,
            Kind::Option => 2,
            Kind::Seq | Kind::Map => LENGTHS.len(),
            Kind::Enum(variants) => variants.len().max(1),
            _ => 1,
        }
    }

    fn is_variant(self) -> bool {
        matches!(
            self,
            Kind::UnitVariant | Kind::NewtypeVariant | Kind::TupleVariant(_) | Kind::StructVariant(_)
        )
    }

    /// Its second choice is to be empty, which asks nothing of what is inside.
    fn can_be_empty(self) -> bool {
        matches!(self, Kind::Option | Kind::Seq | Kind::Map)
    }
}

/// Whether another run may learn something below a node.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
enum Status {
    #[default]
    Open,
    /// Not before the target of a back-reference has passed.
    Blocked,
    Done,
}

#[derive(Clone, Default)]
struct Node {
    kind: Option<Kind>,
    children: Vec<usize>,
    level: u32,
    /// The choice made when it was last filled.
    pick: usize,
    /// The choice with which it passed at first. What passed first contains only what had passed
    /// before, so that replays end.
    first: Option<usize>,
    /// The choice with which the value closest to the root passed, and the level of that.
    best: Option<(u32, usize)>,
    /// Its value was accepted in some run.
    passed: bool,
    refused: bool,
    /// A run that went here learned nothing.
    stalled: bool,
    status: Status,
    /// Nothing gets past it.
    dead: bool,
}

/// A place for one value.
#[derive(Clone, Copy)]
struct Slot {
    node: usize,
    replay: bool,
}

/// A type that is being deserialized. Seeds (which only serve to name a type in errors) have no
/// visitor.
struct Asked {
    visitor: &'static str,
    value: &'static str,
    kind: Option<Kind>, // none: newtype
    node: usize,
}

/// Looks for a choice that makes `target` pass, one run for each of `tries`.
struct Search {
    target: usize,
    /// The choices of the run that failed.
    held: BTreeMap<usize, usize>,
    trying: Option<(usize, usize)>,
    tries: vec::IntoIter<(usize, usize)>,
}

#[derive(Default)]
struct Trace {
    nodes: Vec<Node>,
    /// Stands in for a node that is not there. Ids come from `nodes` alone, so this only saves a
    /// path that panics.
    spare: Node,
    search: Option<Search>,
    budget_used: usize,
    /// Counts what was learned.
    learned: usize,
    unsupported: Option<&'static str>,
    /// A reader was met that may be anybody's.
    foreign: bool,
    /// What was asked for in the current run.
    calls: Calls,
    /// Sequences whose elements are compared with one another.
    sets: Vec<usize>,

    // Of the current run:
    asked: Vec<Asked>,
    /// The nodes that had a choice, with the choice.
    trail: Vec<(usize, usize)>,
    /// An error is on its way up.
    failing: bool,
    /// The first value that failed for an unknown reason, and the part of the trail inside of it.
    failure: Option<(usize, Range<usize>)>,
}

impl Trace {
    /// Runs until nothing is open. A run that belongs to no search explores; one that learns
    /// nothing in it closes what it took for open, so that this ends even if the bounds do not bite.
    fn explore(&mut self, mut run: impl FnMut(&mut Trace)) -> Result<(), Unsupported> {
        for _ in 0..RUNS {
            let before = self.learned;
            (self.failing, self.failure) = (false, None);
            self.asked.clear();
            self.trail.clear();
            run(self);
            // Kept by us, since the type may have swallowed the error.
            if let Some(type_name) = self.unsupported {
                return Err(Unsupported::NotSelfDescribing { type_name });
            }
            if self.exhausted() {
                break;
            }
            if self.continue_search() {
                continue;
            }
            self.refresh();
            let stalled = self.learned == before;
            if self.begin_search(stalled) {
                continue;
            }
            if self.node(ROOT).status != Status::Open || (stalled && !self.give_up()) {
                break;
            }
        }
        Ok(())
    }

    /// For `seen` alone, when the shape stands: one more run for each option, sequence, map and leaf, in
    /// which it is empty or has its second candidate (zero, for an integer). What a type leaves out when
    /// it writes is mostly that.
    fn vary(&mut self, mut run: impl FnMut(&mut Trace)) {
        let mut variations = Vec::new();
        let mut todo = vec![(ROOT, BTreeMap::new())];
        while let Some((id, held)) = todo.pop().filter(|_| variations.len() < RUNS) {
            let node = self.node(id);
            for (index, &child) in node.children.iter().enumerate() {
                let mut held = held.clone();
                match node.kind {
                    Some(Kind::Enum(_)) => drop(held.insert(id, index)),
                    Some(kind) if kind.can_be_empty() => drop(held.insert(id, 0)),
                    _ => {}
                }
                todo.push((child, held));
            }
            let varies = |kind: Kind| kind.can_be_empty() || matches!(kind, Kind::Leaf(_, 2..));
            if node.passed && node.kind.is_some_and(varies) {
                variations.push((id, held));
            }
        }
        for (id, held) in variations {
            if self.exhausted() {
                break;
            }
            self.search =
                Some(Search { target: id, held, trying: Some((id, 1)), tries: Vec::new().into_iter() });
            (self.failing, self.failure) = (false, None);
            self.asked.clear();
            self.trail.clear();
            run(self);
        }
    }

    /// True if there is another try to make.
    fn continue_search(&mut self) -> bool {
        let Some(mut search) = self.search.take() else {
            return false;
        };
        if self.node(search.target).passed {
            return false;
        }
        search.trying = search.tries.next();
        if search.trying.is_some() {
            self.search = Some(search);
            return true;
        }
        for (node, pick) in search.held {
            self.node_mut(node).pick = pick;
        }
        self.refuse(search.target);
        self.failure = None; // it belongs to the last try
        false
    }

    /// If the last run failed at a value that is explored but for passing: looks for a choice
    /// inside of it that makes it pass. An enum that was just being explored returns to its best
    /// variant first, lest two choices are wrong.
    fn begin_search(&mut self, stalled: bool) -> bool {
        let Some((target, inside)) = self.failure.take() else {
            return false;
        };
        let inside = self.trail.get(inside).unwrap_or_default();
        let exploring = |&(node, pick): &(usize, usize)| {
            let node = self.node(node);
            matches!(node.kind, Some(Kind::Enum(_))) && node.best.is_some_and(|(_, best)| best != pick)
        };
        let open = self.node(target).children.iter().any(|&child| self.node(child).status == Status::Open);
        if !stalled && (open || inside.iter().any(exploring)) {
            return false;
        }
        let others = |&(node, pick): &(usize, usize)| {
            let choices = self.node(node).kind.map_or(0, Kind::choices);
            (0..choices).filter(move |&choice| choice != pick).map(move |choice| (node, choice))
        };
        let mut tries = inside.iter().rev().flat_map(others).take(TRIES).collect::<Vec<_>>().into_iter();
        self.search =
            Some(Search { target, held: self.trail.drain(..).collect(), trying: tries.next(), tries });
        true
    }

    /// After a run that learned nothing: closes the open alternatives that it took, so that others
    /// get their turn. False if there are none.
    fn give_up(&mut self) -> bool {
        let mut taken = Vec::new();
        for &(id, pick) in &self.trail {
            let node = self.node(id);
            match node.kind {
                Some(Kind::Enum(_)) => taken.extend(node.children.get(pick)),
                _ => taken.extend(&node.children),
            }
        }
        taken.retain(|&child| self.node(child).status == Status::Open);
        for &child in &taken {
            self.node_mut(child).stalled = true;
        }
        self.refresh();
        !taken.is_empty()
    }

    /// Brings every `status` and `dead` up to date. Children have larger ids than their parents,
    /// so one pass from the end will do.
    fn refresh(&mut self) {
        self.budget_used = self.budget_used.saturating_add(self.nodes.len());
        for id in (0..self.nodes.len()).rev() {
            let node = self.node(id);
            let children = || node.children.iter().map(|&child| self.node(child));
            let any = |status| children().any(|child| child.status == status);
            let settled = node.passed || node.refused || node.stalled;
            let dead = !node.passed
                && (node.refused
                    || node.stalled
                    || match node.kind {
                        Some(Kind::Enum(_)) => {
                            !node.children.is_empty() && children().all(|child| child.dead)
                        }
                        Some(kind) if kind.can_be_empty() => false,
                        _ => children().any(|child| child.dead),
                    });
            let status = match node.kind {
                _ if node.stalled => Status::Done,
                Some(Kind::BackRef { target, .. }) if !settled && !self.node(target).passed => {
                    Status::Blocked
                }
                _ if any(Status::Open) => Status::Open,
                Some(kind) if kind.can_be_empty() && !settled => Status::Open,
                _ if any(Status::Blocked) => Status::Blocked,
                _ if settled || dead => Status::Done,
                _ => Status::Open,
            };
            let node = self.node_mut(id);
            (node.status, node.dead) = (status, dead);
        }
    }

    /// Has `deserialize` ask for the value of a slot, and notes how that ends.
    fn fill<R>(
        &mut self,
        slot: Slot,
        name: &'static str,
        deserialize: impl FnOnce(Tracer<'_>) -> Traced<R>,
    ) -> Traced<R> {
        self.failing = false; // an error that did not get to the root was swallowed
        self.budget_used = self.budget_used.saturating_add(VISIT);
        if self.exhausted() {
            return Err(Refusal);
        }
        let (asked, trail) = (self.asked.len(), self.trail.len());
        self.asked.push(Asked { visitor: "", value: name, kind: None, node: slot.node });
        let result = deserialize(Tracer { trace: self, slot });
        self.asked.truncate(asked);
        if slot.replay {
            return result;
        }
        match &result {
            Ok(_) => self.passed(slot.node, trail),
            Err(_) => self.failed(slot.node, trail),
        }
        result
    }

    /// `trail`: where the part of the trail inside of the node begins.
    fn passed(&mut self, id: usize, trail: usize) {
        self.failing = false;
        let level = self.node(id).level;
        for at in trail..self.trail.len() {
            let Some(&(inner, pick)) = self.trail.get(at) else { break };
            let inner = self.node_mut(inner);
            if inner.best.is_none_or(|(best, _)| level < best) {
                inner.best = Some((level, pick));
            }
        }
        let node = self.node_mut(id);
        node.first = node.first.or(Some(node.pick));
        if !node.passed {
            node.passed = true;
            self.learned += 1;
        }
    }

    fn failed(&mut self, id: usize, trail: usize) {
        if self.failing {
            return; // not its own failure
        }
        self.failing = true;
        let node = self.node(id);
        let waits = matches!(node.kind, Some(Kind::BackRef { target, .. }) if !self.node(target).passed);
        if !node.passed && !node.refused && !waits && self.failure.is_none() {
            self.failure = Some((id, trail..self.trail.len()));
        }
    }

    fn refuse(&mut self, id: usize) {
        let node = self.node_mut(id);
        if !node.refused {
            node.refused = true;
            self.learned += 1;
        }
    }

    /// The choice for this run.
    fn choose(&mut self, id: usize, kind: Kind) -> usize {
        let pick = self.held(id).unwrap_or_else(|| self.next_choice(id, kind));
        self.node_mut(id).pick = pick;
        if kind.choices() > 1 {
            self.trail.push((id, pick));
        }
        pick
    }

    /// What a search prescribes.
    fn held(&self, id: usize) -> Option<usize> {
        let search = self.search.as_ref()?;
        match search.trying {
            Some((node, choice)) if node == id => Some(choice),
            _ => search.held.get(&id).copied(),
        }
    }

    fn next_choice(&self, id: usize, kind: Kind) -> usize {
        let node = self.node(id);
        let open = node.children.iter().position(|&child| self.node(child).status == Status::Open);
        let best = node.best.map(|(_, pick)| pick);
        match kind {
            Kind::Enum(_) => open.or(best).unwrap_or(0),
            _ if !kind.can_be_empty() => node.pick,
            _ if open.is_some() || (node.children.is_empty() && !node.passed) => 0,
            _ => best.unwrap_or(1),
        }
    }

    /// Makes a node what it was asked to be. A type that asks differently in each run starts it
    /// anew each time.
    fn become_kind(&mut self, id: usize, kind: Kind) {
        let node = self.node_mut(id);
        if node.kind != Some(kind) {
            *node = Node { kind: Some(kind), level: node.level, ..Node::default() };
            self.learned += 1;
        }
    }

    /// The slot of a content; `again`: of one that is like an earlier one.
    fn child(&mut self, parent: Slot, index: usize, again: bool) -> Traced<Slot> {
        let replay = parent.replay || again;
        while self.node(parent.node).children.len() <= index {
            if replay {
                return Err(Refusal);
            }
            if self.nodes.len() >= NODES {
                self.budget_used = BUDGET;
                return Err(Refusal);
            }
            let id = self.nodes.len();
            let level = self.node(parent.node).level.saturating_add(1);
            self.nodes.push(Node { level, ..Node::default() });
            self.node_mut(parent.node).children.push(id);
        }
        let node = self.node(parent.node).children.get(index).copied().ok_or(Refusal)?;
        Ok(Slot { node, replay })
    }

    /// Postcard would refuse; so does `build()`, with a name that the developer knows: not that of
    /// a helper inside serde or a derived impl.
    fn not_self_describing<'de, V: Visitor<'de>>(&mut self) -> Refusal {
        let own = |name: &&str| {
            !name.is_empty() && !name.contains("__") && !name.starts_with("serde_core::private")
        };
        let outer = self.asked.iter().rev().map(|asked| asked.value);
        let name = std::iter::once(type_name::<V::Value>()).chain(outer).find(own);
        self.unsupported = self.unsupported.or(name).or(Some(type_name::<V::Value>()));
        Refusal
    }

    /// Notes who reads a slot: `V`, for what was asked for last.
    fn meet<'de, V: Visitor<'de>>(&mut self) {
        let (visitor, mut declared) = (type_name::<V>(), self.asked.last().map_or("", |asked| asked.value));
        let value = type_name::<V::Value>();
        // Their reader is that of what is inside.
        while declared != value
            && let Some(inner) = ["alloc::boxed::Box<", "alloc::sync::Arc<", "alloc::rc::Rc<"]
                .into_iter()
                .find_map(|wrapper| declared.strip_prefix(wrapper)?.strip_suffix('>'))
        {
            declared = inner;
        }
        let ours = ["serde_core::de::impls::", "serde::de::impls::", MAP];
        // `path::_::<impl serde_core::de::Deserialize for T>::deserialize::__Visitor`, with parameters or without.
        let type_path = value.split('<').next().unwrap_or(value);
        let derived = |(module, rest): (&str, &str)| {
            let rest = rest.strip_prefix("_core").unwrap_or(rest).strip_prefix("::de::Deserialize");
            let rest = rest.and_then(|rest| rest.split_once(" for ")?.1.strip_prefix(type_path));
            !module.contains('<') && rest.is_some_and(|rest| rest.contains(">::deserialize::__Visitor"))
        };
        let known = ours.iter().any(|module| visitor.starts_with(module))
            || visitor.split_once("::_::<impl serde").is_some_and(derived);
        self.foreign |= !known || declared != value;
    }

    /// Only of use when all is explored.
    fn is_plain(&self) -> bool {
        let is_leaf = |id: &usize| matches!(self.node(*id).kind, Some(Kind::Leaf(..)));
        // Of keys that are made of fields two may fall together once those are gone that are not stored.
        let keyed =
            |node: &Node| matches!(node.kind, Some(Kind::Map)) && !node.children.first().is_some_and(is_leaf);
        let set = |set: &usize| !self.node(*set).children.first().is_some_and(is_leaf);
        !self.foreign
            && !self.nodes.iter().any(keyed)
            && !self.sets.iter().any(set)
            && !self.exhausted()
            && self.node(ROOT).status == Status::Done
            && !self.nodes.iter().any(|node| node.refused || node.stalled)
    }

    fn exhausted(&self) -> bool {
        self.budget_used >= BUDGET
    }

    fn node(&self, id: usize) -> &Node {
        self.nodes.get(id).unwrap_or(&self.spare)
    }

    fn node_mut(&mut self, id: usize) -> &mut Node {
        self.nodes.get_mut(id).unwrap_or(&mut self.spare)
    }

    /// Recursion is bounded by the depth of the tree, hence by `DEPTH`.
    fn encode(&self, id: usize, out: &mut Vec<u8>) {
        let node = self.node(id);
        if node.refused {
            out.push(0xff);
        }
        out.push(node.kind.map_or(0, Kind::tag));
        match node.kind {
            Some(Kind::BackRef { up, .. }) => out.extend(up.to_le_bytes()),
            Some(Kind::Tuple(len) | Kind::TupleVariant(len)) => encode_count(len, out),
            Some(Kind::Struct(names) | Kind::Enum(names) | Kind::StructVariant(names)) => {
                encode_count(names.len(), out);
                for name in names {
                    encode_count(name.len(), out);
                    out.extend(name.as_bytes());
                }
            }
            _ => {}
        }
        encode_count(node.children.len(), out);
        for &child in &node.children {
            self.encode(child, out);
        }
    }
}

fn encode_count(count: usize, out: &mut Vec<u8>) {
    out.extend(u32::try_from(count).unwrap_or(u32::MAX).to_le_bytes());
}

type Traced<T> = Result<T, Refusal>;

/// The error of a traced type. Its text is never read, so it is never rendered.
#[derive(Debug)]
struct Refusal;

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("refused while the shape was traced")
    }
}

impl std::error::Error for Refusal {}

impl de::Error for Refusal {
    fn custom<M: fmt::Display>(_: M) -> Refusal {
        Refusal
    }
}

/// Stands where postcard's `Deserializer` stands, and asks the same of visitors.
struct Tracer<'a> {
    trace: &'a mut Trace,
    slot: Slot,
}

impl Tracer<'_> {
    /// Notes what the slot is asked to be; returns the choice to make.
    fn ask(&mut self, kind: Kind) -> Traced<usize> {
        if !kind.is_variant() {
            self.trace.calls = self.trace.calls.then(kind.tag());
        }
        let Slot { node: id, replay } = self.slot;
        if !replay {
            self.trace.become_kind(id, kind);
            return Ok(self.trace.choose(id, kind));
        }
        let node = self.trace.node(id);
        match (node.kind == Some(kind) && node.passed, kind) {
            (true, Kind::Leaf(..)) => Ok(node.pick),
            (true, _) => node.first.ok_or(Refusal),
            (false, _) => Err(Refusal),
        }
    }

    /// The same for what can contain itself.
    fn ask_nested<'de, V: Visitor<'de>>(&mut self, kind: Kind) -> Traced<usize> {
        self.trace.meet::<V>();
        self.enter::<V>(Some(kind))?;
        self.ask(kind)
    }

    /// Notes the type whose visitor asks. If it is asked for inside itself, the slot becomes a
    /// replay of the outer one.
    fn enter<'de, V: Visitor<'de>>(&mut self, kind: Option<Kind>) -> Traced<()> {
        let asked =
            Asked { visitor: type_name::<V>(), value: type_name::<V::Value>(), kind, node: self.slot.node };
        if !self.slot.replay {
            // Both names and the kind, since different types can have the same name.
            let same = |a: &&Asked| (a.visitor, a.value, a.kind) == (asked.visitor, asked.value, asked.kind);
            if let Some(target) = self.trace.asked.iter().find(same).map(|above| above.node) {
                let level = |id| self.trace.node(id).level;
                let up = level(self.slot.node).saturating_sub(level(target));
                self.trace.become_kind(self.slot.node, Kind::BackRef { up, target });
                self.slot.replay = true;
            }
        }
        if let (true, Some(Kind::BackRef { target, .. })) =
            (self.slot.replay, self.trace.node(self.slot.node).kind)
        {
            if !self.trace.node(target).passed {
                return Err(Refusal);
            }
            self.slot.node = target;
        }
        if self.trace.asked.len() >= DEPTH {
            if !self.slot.replay {
                self.trace.refuse(self.slot.node);
            }
            return Err(Refusal);
        }
        self.trace.asked.push(asked);
        Ok(())
    }
}

/// The elements of a sequence, map, tuple or struct, as postcard's `SeqAccess` and `MapAccess`
/// give them.
struct Elements<'a> {
    trace: &'a mut Trace,
    slot: Slot,
    given: usize,
    len: usize,
    /// All are of one type: those after the first are replays of it.
    alike: bool,
}

impl<'a> Elements<'a> {
    fn of(tracer: Tracer<'a>, len: usize) -> Elements<'a> {
        Elements { trace: tracer.trace, slot: tracer.slot, given: 0, len, alike: false }
    }

    fn alike(tracer: Tracer<'a>, pick: usize) -> Traced<Elements<'a>> {
        let len = LENGTHS.get(pick).copied().ok_or(Refusal)?;
        Ok(Elements { alike: true, ..Elements::of(tracer, len) })
    }

    fn fill<'de, S: DeserializeSeed<'de>>(&mut self, index: usize, again: bool, seed: S) -> Traced<S::Value> {
        let slot = self.trace.child(self.slot, index, again)?;
        self.trace.fill(slot, type_name::<S::Value>(), |tracer| seed.deserialize(tracer))
    }

    fn next<'de, S: DeserializeSeed<'de>>(&mut self, seed: S) -> Traced<Option<S::Value>> {
        if self.given >= self.len {
            return Ok(None);
        }
        let nth = self.given;
        self.given += 1;
        if self.alike { self.fill(0, nth > 0, seed) } else { self.fill(nth, false, seed) }.map(Some)
    }
}

impl<'de> de::SeqAccess<'de> for Elements<'_> {
    type Error = Refusal;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Traced<Option<S::Value>> {
        self.next(seed)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.len.saturating_sub(self.given))
    }
}

impl<'de> de::MapAccess<'de> for Elements<'_> {
    type Error = Refusal;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Traced<Option<S::Value>> {
        self.next(seed)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Traced<S::Value> {
        self.fill(1, self.given > 1, seed)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.len.saturating_sub(self.given))
    }
}

/// The chosen variant: its index, and the slot of what it holds.
struct Variant<'a> {
    content: Tracer<'a>,
    index: usize,
}

impl<'a, 'de> de::EnumAccess<'de> for Variant<'a> {
    type Error = Refusal;
    type Variant = Tracer<'a>;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Traced<(S::Value, Tracer<'a>)> {
        let index: U32Deserializer<Refusal> =
            u32::try_from(self.index).map_err(|_| Refusal)?.into_deserializer();
        Ok((seed.deserialize(index)?, self.content))
    }
}

impl<'de> de::VariantAccess<'de> for Tracer<'_> {
    type Error = Refusal;

    fn unit_variant(self) -> Traced<()> {
        self.trace.fill(self.slot, "", |mut tracer| tracer.ask(Kind::UnitVariant).map(drop))
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Traced<S::Value> {
        self.trace.fill(self.slot, "", |mut tracer| {
            tracer.ask(Kind::NewtypeVariant)?;
            Elements::of(tracer, 1).fill(0, false, seed)
        })
    }

    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Traced<V::Value> {
        self.trace.fill(self.slot, "", |mut tracer| {
            tracer.ask(Kind::TupleVariant(len))?;
            visitor.visit_seq(Elements::of(tracer, len))
        })
    }

    fn struct_variant<V: Visitor<'de>>(self, fields: Names, visitor: V) -> Traced<V::Value> {
        self.trace.fill(self.slot, "", |mut tracer| {
            tracer.ask(Kind::StructVariant(fields))?;
            visitor.visit_seq(Elements::of(tracer, fields.len()))
        })
    }
}

/// Methods that ask for a leaf, tag `$tag`, and hand the value `$value` of the candidate chosen
/// among `$of` to the visitor.
macro_rules! leaves {
    ($($method:ident, $tag:expr, $of:expr, $visit:ident, $value:expr;)*) => {$(
        fn $method<V: Visitor<'de>>(mut self, visitor: V) -> Traced<V::Value> {
            self.trace.meet::<V>();
            let candidate = *$of.get(self.ask(Kind::Leaf($tag, $of.len()))?).ok_or(Refusal)?;
            visitor.$visit($value(candidate)?)
        }
    )*};
}

/// A candidate that does not fit in the type fails like one that is refused.
fn integer<N: TryFrom<i128>>(candidate: i128) -> Traced<N> {
    N::try_from(candidate).map_err(|_| Refusal)
}

fn bytes(len: usize) -> Traced<&'static [u8]> {
    BYTES.get(..len).ok_or(Refusal)
}

impl<'de> Deserializer<'de> for Tracer<'_> {
    type Error = Refusal;

    fn is_human_readable(&self) -> bool {
        false
    }

    leaves! {
        deserialize_bool, tag::BOOL, [false, true], visit_bool, Ok;
        deserialize_i8, tag::I8, INTEGERS, visit_i8, integer;
        deserialize_i16, tag::I16, INTEGERS, visit_i16, integer;
        deserialize_i32, tag::I32, INTEGERS, visit_i32, integer;
        deserialize_i64, tag::I64, INTEGERS, visit_i64, integer;
        deserialize_i128, tag::I128, INTEGERS, visit_i128, integer;
        deserialize_u8, tag::U8, INTEGERS, visit_u8, integer;
        deserialize_u16, tag::U16, INTEGERS, visit_u16, integer;
        deserialize_u32, tag::U32, INTEGERS, visit_u32, integer;
        deserialize_u64, tag::U64, INTEGERS, visit_u64, integer;
        deserialize_u128, tag::U128, INTEGERS, visit_u128, integer;
        deserialize_f32, tag::F32, FLOATS, visit_f32, Ok;
        deserialize_f64, tag::F64, FLOATS, visit_f64, |number| Ok(f64::from(number));
        deserialize_char, tag::CHAR, CHARS, visit_char, Ok;
        deserialize_str, tag::STR, STRINGS, visit_borrowed_str, Ok;
        deserialize_string, tag::STR, STRINGS, visit_str, Ok;
        deserialize_bytes, tag::BYTES, BYTE_LENGTHS, visit_borrowed_bytes, bytes;
        deserialize_byte_buf, tag::BYTES, BYTE_LENGTHS, visit_bytes, bytes;
    }

    fn deserialize_unit<V: Visitor<'de>>(mut self, visitor: V) -> Traced<V::Value> {
        self.trace.meet::<V>();
        self.ask(Kind::Leaf(tag::UNIT, 1))?;
        visitor.visit_unit()
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Traced<V::Value> {
        self.deserialize_unit(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        mut self,
        _: &'static str,
        visitor: V,
    ) -> Traced<V::Value> {
        self.trace.foreign = true;
        self.enter::<V>(None)?;
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_option<V: Visitor<'de>>(mut self, visitor: V) -> Traced<V::Value> {
        if self.ask_nested::<V>(Kind::Option)? > 0 {
            return visitor.visit_none();
        }
        let some = self.trace.child(self.slot, 0, false)?;
        let option = type_name::<V::Value>();
        let inner = option.strip_prefix("core::option::Option<").and_then(|rest| rest.strip_suffix('>'));
        self.trace.fill(some, inner.unwrap_or(""), |tracer| visitor.visit_some(tracer))
    }

    fn deserialize_seq<V: Visitor<'de>>(mut self, visitor: V) -> Traced<V::Value> {
        let value = type_name::<V::Value>();
        if SETS.iter().any(|set| value.starts_with(set)) {
            self.trace.sets.push(self.slot.node);
        }
        let pick = self.ask_nested::<V>(Kind::Seq)?;
        visitor.visit_seq(Elements::alike(self, pick)?)
    }

    fn deserialize_map<V: Visitor<'de>>(mut self, visitor: V) -> Traced<V::Value> {
        let pick = self.ask_nested::<V>(Kind::Map)?;
        visitor.visit_map(Elements::alike(self, pick)?)
    }

    fn deserialize_tuple<V: Visitor<'de>>(mut self, len: usize, visitor: V) -> Traced<V::Value> {
        self.ask_nested::<V>(Kind::Tuple(len))?;
        visitor.visit_seq(Elements::of(self, len))
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        len: usize,
        visitor: V,
    ) -> Traced<V::Value> {
        self.deserialize_tuple(len, visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        mut self,
        _: &'static str,
        fields: Names,
        visitor: V,
    ) -> Traced<V::Value> {
        self.ask_nested::<V>(Kind::Struct(fields))?;
        visitor.visit_seq(Elements::of(self, fields.len()))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        mut self,
        _: &'static str,
        variants: Names,
        visitor: V,
    ) -> Traced<V::Value> {
        let index = self.ask_nested::<V>(Kind::Enum(variants))?;
        // A node for each variant at once: those not traced yet are open.
        self.trace.child(self.slot, variants.len().saturating_sub(1), false)?;
        let slot = self.trace.child(self.slot, index, false)?;
        visitor.visit_enum(Variant { content: Tracer { trace: self.trace, slot }, index })
    }

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Traced<V::Value> {
        Err(self.trace.not_self_describing::<V>())
    }

    forward_to_deserialize_any! { identifier ignored_any }
}

#[cfg(test)]
#[allow(dead_code)] // what is derived here is never built
mod tests {
    use super::*;
    use serde::Deserialize;
    use std::{collections::HashMap, num::NonZeroU64};

    /// Like `uuid::Uuid`: sixteen bytes or nothing.
    struct Id;

    impl<'de> Deserialize<'de> for Id {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Id, D::Error> {
            struct Sixteen;
            impl Visitor<'_> for Sixteen {
                type Value = Id;
                fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    f.write_str("sixteen bytes")
                }
                fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Id, E> {
                    if bytes.len() == 16 { Ok(Id) } else { Err(E::invalid_length(bytes.len(), &self)) }
                }
            }
            deserializer.deserialize_bytes(Sixteen)
        }
    }

    /// Refuses everything.
    struct Never;

    impl<'de> Deserialize<'de> for Never {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Never, D::Error> {
            u64::deserialize(deserializer)?;
            Err(de::Error::custom("never"))
        }
    }

    /// Two types with the fields `a` and `b`, in this order and swapped, behind what is given.
    macro_rules! swapped {
        ($($before:tt)*) => {{
            mod one {
                use super::*;
                #[derive(Deserialize)]
                            pub struct S { $($before)* a: u64, b: u64 }
            }
            mod other {
                use super::*;
                #[derive(Deserialize)]
                            pub struct S { $($before)* b: u64, a: u64 }
            }
            (shape_of::<one::S>(), shape_of::<other::S>())
        }};
    }

    #[derive(Deserialize)]
    struct Shop {
        user: Option<u64>,
        cart: Vec<u32>,
    }

    #[derive(Deserialize)]
    enum Expr {
        Add(Box<Expr>, Box<Expr>, u8),
        Lit(i64),
    }

    #[derive(Deserialize)]
    enum Choice<T, U> {
        First(u8),
        Second { first: T, second: U },
        Third(Option<Never>),
    }

    fn shape_of<T: DeserializeOwned>() -> Result<Shape, Unsupported> {
        outline_of::<T>(|_, _| {}).map(|outline| outline.shape())
    }

    fn hex<T: DeserializeOwned>() -> String {
        shape_of::<T>().map_or_else(|why| format!("{why:?}"), |shape| shape.to_string())
    }

    #[test]
    fn a_pinned_shape() {
        let mut encoding = vec![0x24, 2, 0, 0, 0, 4, 0, 0, 0];
        encoding.extend(b"user\x04\0\0\0cart\x02\0\0\0");
        encoding.extend(b"\x20\x01\0\0\0\x0b\0\0\0\0"); // Some(u64)
        encoding.extend(b"\x21\x01\0\0\0\x0a\0\0\0\0"); // [u32]
        assert_eq!(outline_of::<Shop>(|_, _| {}).map(|outline| outline.encoding), Ok(encoding));
        assert_eq!(hex::<Shop>(), "15966813");
    }

    #[test]
    fn swapped_fields_differ_wherever_they_stand() {
        let pairs = [
            swapped!(),
            swapped!(id: Id,),
            swapped!(count: NonZeroU64,),
            swapped!(expr: Expr,),
            swapped!(next: Option<Box<S>>, all: Vec<S>, by_name: HashMap<String, S>,),
            swapped!(choice: Choice<Never, Id>,),
            swapped!(never: Never,), // by the names alone
        ];
        for (one, other) in pairs {
            assert!(one.is_ok() && other.is_ok());
            assert_ne!(one, other);
        }
        assert_ne!(hex::<Choice<u8, i8>>(), hex::<Choice<i8, u8>>());
        assert_ne!(hex::<Choice<Id, f32>>(), hex::<Choice<Id, f64>>());
        assert_eq!(hex::<(Never, f32)>(), hex::<(Never, f64)>()); // the documented limit
    }

    #[test]
    fn names_of_types_do_not_count() {
        #[derive(Deserialize)]
        enum Renamed {
            Add(Wrapper, Wrapper, u8),
            Lit(i64),
        }
        #[derive(Deserialize)]
        struct Wrapper(Box<Renamed>);
        #[derive(Deserialize)]
        struct Unit;
        assert_eq!(hex::<Expr>(), hex::<Renamed>());
        assert_eq!(hex::<Expr>(), hex::<Wrapper>());
        assert_eq!(hex::<()>(), hex::<Unit>());
    }

    #[test]
    fn what_needs_a_self_describing_format_is_named() {
        #[derive(Deserialize)]
        struct Flat {
            #[serde(flatten)]
            shop: Shop,
        }
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Untagged {
            One(u8),
        }
        #[derive(Deserialize)]
        #[serde(tag = "tag")]
        enum Tagged {
            One { one: u8 },
        }
        for (shape, name) in [
            (shape_of::<Flat>(), "Flat"),
            (shape_of::<Untagged>(), "Untagged"),
            (shape_of::<(u8, Result<u8, Option<Tagged>>)>(), "::Tagged"),
            (shape_of::<de::IgnoredAny>(), "IgnoredAny"),
        ] {
            let found = shape.err().map(|Unsupported::NotSelfDescribing { type_name }| type_name);
            assert!(found.is_some_and(|found| found.contains(name)), "{name}: {found:?}");
        }
    }

    /// A reader of one's own, and a checked one under derives.
    fn even<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
        let number = u64::deserialize(deserializer)?;
        if number % 2 == 0 { Ok(number) } else { Err(de::Error::custom("odd")) }
    }

    #[test]
    fn plain_is_what_is_derived_or_serdes_own() {
        #[derive(Deserialize)]
        struct Everything<'a> {
            shop: Option<Shop>,
            more: Vec<(u8, String, [f32; 4])>,
            by_name: std::collections::BTreeMap<String, Box<Expr>>,
            choice: Choice<char, Vec<Option<bool>>, u8>,
            nothing: ((), std::marker::PhantomData<&'a u8>),
            since: std::time::Duration,
            #[serde(skip)]
            skipped: u8,
            #[serde(alias = "b", rename = "c")]
            renamed: Result<u8, String>,
        }
        #[derive(Deserialize)]
        enum Choice<A, B, C> {
            None,
            One(A),
            Two { one: A, two: B },
            Both(B, C),
        }
        #[derive(Deserialize)]
        struct With {
            #[serde(deserialize_with = "even")]
            number: u64,
        }
        #[derive(Deserialize)]
        struct Newtype(#[serde(deserialize_with = "even")] u64);
        #[derive(Deserialize)]
        #[serde(transparent)]
        struct Transparent {
            #[serde(deserialize_with = "even")]
            number: u64,
        }
        #[derive(Deserialize)]
        #[serde(from = "u64")]
        struct From_(u64);
        impl From<u64> for From_ {
            fn from(number: u64) -> From_ {
                From_(number / 2)
            }
        }
        #[derive(Deserialize)]
        enum Variant {
            Number(#[serde(deserialize_with = "even")] u64),
        }
        #[derive(Deserialize)]
        #[serde(remote = "std::time::Duration")]
        #[allow(dead_code)]
        struct Remote {
            #[serde(getter = "std::time::Duration::as_secs", deserialize_with = "even")]
            secs: u64,
        }
        impl From<Remote> for std::time::Duration {
            fn from(remote: Remote) -> Self {
                Self::from_secs(remote.secs)
            }
        }
        #[derive(Deserialize)]
        struct UsesRemote {
            #[serde(with = "Remote")]
            duration: std::time::Duration,
        }
        fn plain<T: DeserializeOwned>() -> bool {
            outline_of::<T>(|_, _| {}).is_ok_and(|outline| outline.plain)
        }
        assert!(plain::<Everything>());
        assert!(plain::<crate::SessionMap>());
        assert!(plain::<u64>() && plain::<Vec<NonZeroU64>>() && plain::<Box<Box<u8>>>());
        for (plain, name) in [
            (plain::<With>(), "with"),
            (plain::<Newtype>(), "newtype"),
            (plain::<Transparent>(), "transparent"),
            (plain::<From_>(), "from"),
            (plain::<Variant>(), "with, in a variant"),
            (plain::<UsesRemote>(), "remote"),
            (plain::<Id>(), "by hand"),
            (plain::<(u8, Vec<Option<Id>>)>(), "by hand, inside"),
            (plain::<Option<Never>>(), "refused"),
        ] {
            assert!(!plain, "{name}");
        }
    }
}
