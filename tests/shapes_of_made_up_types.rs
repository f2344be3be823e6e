//! The shapes of a thousand made-up types, pinned: a shape that changes signs everybody out who has a
//! session of such a type, so how a shape is found is as much a promise as the bytes of a cookie.
//!
//! The types are graphs, with recursion, of everything that serde knows; many refuse some of their values, as
//! types that validate do, some swallow a refusal, and some ask for one thing or another.

use cookie_session::internal::shape_encoding;
use serde::{
    Deserialize, Deserializer,
    de::{EnumAccess, Error, MapAccess, SeqAccess, VariantAccess, Visitor},
};
use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    fmt,
};

/// One line for each: its number, its shape. A failing test prints the lines as they would be now.
const PINNED: &str = include_str!("data/shapes_of_made_up_types.txt");

const TYPES: u64 = 1200;

/// More of them: two in which the bounds of the algorithm bite, which takes a second in debug builds, and four that show
/// what none of a smaller number does.
const MORE: [u64; 6] = [1837, 3511, 2007, 2440, 3045, 3863];

/// How many types a graph has, each of which may contain any.
const NODES: usize = 12;

const NAMES: [&[&str]; 5] = [&[], &["a"], &["a", "b"], &["b", "a"], &["user", "cart", "notes"]];

#[derive(Clone, Debug)]
enum Type {
    Leaf(Leaf),
    Newtype(usize),
    Option(usize),
    Seq(usize),
    Map(usize, usize),
    Tuple(Vec<usize>),
    Struct(&'static [&'static str], Vec<usize>),
    Enum(&'static [&'static str], Vec<Variant>),
}

#[derive(Clone, Debug)]
enum Leaf {
    Unit,
    Bool,
    U8,
    U64,
    I32,
    U128,
    F64,
    Char,
    Str,
    String,
    Bytes,
    ByteBuf,
}

#[derive(Clone, Debug)]
enum Variant {
    Unit,
    Newtype(usize),
    Tuple(Vec<usize>),
    Struct(&'static [&'static str], Vec<usize>),
}

/// Which of its values a type takes; each value has a number.
#[derive(Clone, Copy, Debug)]
enum Takes {
    All,
    None,
    AtLeast(u64),
    Rest(u64, u64),
}

impl Takes {
    fn takes(self, number: u64) -> bool {
        match self {
            Takes::All => true,
            Takes::None => false,
            Takes::AtLeast(least) => number >= least,
            Takes::Rest(divisor, rest) => number % divisor == rest,
        }
    }
}

#[derive(Clone, Debug)]
struct Node {
    is: Type,
    takes: Takes,
    /// Takes contents that were refused for nothing.
    swallows: bool,
    /// Is asked for as another type every second time.
    fickle: bool,
}

thread_local! {
    static GRAPH: RefCell<Vec<Node>> = const { RefCell::new(Vec::new()) };
    static ASKED: Cell<u64> = const { Cell::new(0) };
}

fn node(index: usize) -> Node {
    GRAPH.with_borrow(|graph| graph[index].clone())
}

/// A value of the type at this place of the graph: its number.
struct Made<const N: usize>(u64);

impl<'de, const N: usize> Deserialize<'de> for Made<N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Made<N>, D::Error> {
        // As postcard's; some types look at it.
        assert!(!deserializer.is_human_readable());
        let Node { mut is, takes, swallows, fickle } = node(N);
        ASKED.set(ASKED.get() + 1);
        if fickle && ASKED.get().is_multiple_of(2) {
            is = Type::Leaf(Leaf::Bool);
        }
        let visitor = Making::<N> { is: is.clone(), swallows };
        let made = match is {
            Type::Leaf(Leaf::Unit) => deserializer.deserialize_unit(visitor),
            Type::Leaf(Leaf::Bool) => deserializer.deserialize_bool(visitor),
            Type::Leaf(Leaf::U8) => deserializer.deserialize_u8(visitor),
            Type::Leaf(Leaf::U64) => deserializer.deserialize_u64(visitor),
            Type::Leaf(Leaf::I32) => deserializer.deserialize_i32(visitor),
            Type::Leaf(Leaf::U128) => deserializer.deserialize_u128(visitor),
            Type::Leaf(Leaf::F64) => deserializer.deserialize_f64(visitor),
            Type::Leaf(Leaf::Char) => deserializer.deserialize_char(visitor),
            Type::Leaf(Leaf::Str) => deserializer.deserialize_str(visitor),
            Type::Leaf(Leaf::String) => deserializer.deserialize_string(visitor),
            Type::Leaf(Leaf::Bytes) => deserializer.deserialize_bytes(visitor),
            Type::Leaf(Leaf::ByteBuf) => deserializer.deserialize_byte_buf(visitor),
            Type::Newtype(_) => deserializer.deserialize_newtype_struct("Newtype", visitor),
            Type::Option(_) => deserializer.deserialize_option(visitor),
            Type::Seq(_) => deserializer.deserialize_seq(visitor),
            Type::Map(..) => deserializer.deserialize_map(visitor),
            Type::Tuple(parts) => deserializer.deserialize_tuple(parts.len(), visitor),
            Type::Struct(names, _) => deserializer.deserialize_struct("Struct", names, visitor),
            Type::Enum(names, _) => deserializer.deserialize_enum("Enum", names, visitor),
        }?;
        if takes.takes(made.0) { Ok(made) } else { Err(D::Error::custom("not this one")) }
    }
}

/// Asks for a value of the type at a place that is known only now.
macro_rules! at {
    ($index:expr, $ask:expr, $($n:literal)*) => {
        match $index {
            $($n => {
                fn numbered<E>(made: Result<Made<$n>, E>) -> Result<u64, E> {
                    made.map(|Made(number)| number)
                }
                numbered($ask)
            })*
            index => unreachable!("{index} of {NODES}"),
        }
    };
    ($index:expr, $ask:expr) => { at!($index, $ask, 0 1 2 3 4 5 6 7 8 9 10 11) };
}

struct Making<const N: usize> {
    is: Type,
    swallows: bool,
}

impl<const N: usize> Making<N> {
    fn content<E>(&self, number: Result<u64, E>) -> Result<u64, E> {
        if self.swallows { number.or(Ok(5)) } else { number }
    }

    fn parts<'de, A: SeqAccess<'de>>(&self, parts: &[usize], mut seq: A) -> Result<Made<N>, A::Error> {
        let mut sum = 0_u64;
        for (given, &part) in parts.iter().enumerate() {
            assert_eq!(seq.size_hint(), Some(parts.len() - given));
            let next =
                at!(part, seq.next_element().and_then(|next| next.ok_or_else(|| A::Error::custom("none"))));
            sum = sum.wrapping_mul(3).wrapping_add(self.content(next)?);
        }
        Ok(Made(sum))
    }
}

/// Of a text or bytes, which have no number.
fn number_of(bytes: &[u8]) -> u64 {
    bytes.iter().fold(bytes.len() as u64, |number, &byte| number.wrapping_mul(31).wrapping_add(byte.into()))
}

impl<'de, const N: usize> Visitor<'de> for Making<N> {
    type Value = Made<N>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.is)
    }
    fn visit_unit<E>(self) -> Result<Made<N>, E> {
        Ok(Made(0))
    }
    fn visit_bool<E>(self, value: bool) -> Result<Made<N>, E> {
        Ok(Made(value.into()))
    }
    fn visit_u8<E>(self, value: u8) -> Result<Made<N>, E> {
        Ok(Made(value.into()))
    }
    fn visit_u64<E>(self, value: u64) -> Result<Made<N>, E> {
        Ok(Made(value))
    }
    fn visit_i32<E>(self, value: i32) -> Result<Made<N>, E> {
        Ok(Made(u64::from(value.cast_unsigned())))
    }
    fn visit_u128<E>(self, value: u128) -> Result<Made<N>, E> {
        Ok(Made(value as u64))
    }
    fn visit_f64<E>(self, value: f64) -> Result<Made<N>, E> {
        Ok(Made(value.abs() as u64 + if value < 0.0 { 1 << 20 } else { 0 }))
    }
    fn visit_char<E>(self, value: char) -> Result<Made<N>, E> {
        Ok(Made(u32::from(value).into()))
    }
    fn visit_str<E>(self, value: &str) -> Result<Made<N>, E> {
        assert!(matches!(self.is, Type::Leaf(Leaf::String)));
        Ok(Made(number_of(value.as_bytes())))
    }
    fn visit_borrowed_str<E>(self, value: &'de str) -> Result<Made<N>, E> {
        assert!(matches!(self.is, Type::Leaf(Leaf::Str)));
        Ok(Made(number_of(value.as_bytes())))
    }
    fn visit_bytes<E>(self, value: &[u8]) -> Result<Made<N>, E> {
        assert!(matches!(self.is, Type::Leaf(Leaf::ByteBuf)));
        Ok(Made(value.len() as u64))
    }
    fn visit_borrowed_bytes<E>(self, value: &'de [u8]) -> Result<Made<N>, E> {
        assert!(matches!(self.is, Type::Leaf(Leaf::Bytes)));
        Ok(Made(value.len() as u64))
    }
    fn visit_none<E>(self) -> Result<Made<N>, E> {
        Ok(Made(0))
    }
    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Made<N>, D::Error> {
        let Type::Option(content) = self.is else { unreachable!() };
        let number = at!(content, Deserialize::deserialize(deserializer));
        Ok(Made(self.content(number)?.wrapping_add(1)))
    }
    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<Made<N>, D::Error> {
        let Type::Newtype(content) = self.is else { unreachable!() };
        let number = at!(content, Deserialize::deserialize(deserializer));
        Ok(Made(self.content(number)?))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Made<N>, A::Error> {
        match &self.is {
            Type::Tuple(parts) | Type::Struct(_, parts) => self.parts(parts, seq),
            Type::Seq(element) => {
                let len = seq.size_hint().expect("as postcard's");
                let mut sum = len as u64;
                for given in 0..len {
                    assert_eq!(seq.size_hint(), Some(len - given));
                    let next = at!(
                        *element,
                        seq.next_element().and_then(|next| next.ok_or_else(|| A::Error::custom("none")))
                    );
                    sum = sum.wrapping_add(self.content(next)?);
                }
                Ok(Made(sum))
            }
            other => unreachable!("{other:?}"),
        }
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Made<N>, A::Error> {
        let Type::Map(key, value) = self.is else { unreachable!() };
        let len = map.size_hint().expect("as postcard's");
        let mut sum = len as u64;
        for given in 0..len {
            assert_eq!(map.size_hint(), Some(len - given));
            let key = at!(key, map.next_key().and_then(|next| next.ok_or_else(|| A::Error::custom("none"))));
            sum = sum.wrapping_add(self.content(key)?);
            let value = at!(value, map.next_value());
            sum = sum.wrapping_mul(3).wrapping_add(self.content(value)?);
        }
        Ok(Made(sum))
    }
    fn visit_enum<A: EnumAccess<'de>>(self, data: A) -> Result<Made<N>, A::Error> {
        let (index, content) = data.variant::<u32>()?;
        let Type::Enum(_, variants) = &self.is else { unreachable!() };
        let variant =
            variants.get(index as usize).ok_or_else(|| A::Error::custom("no such variant"))?.clone();
        let number = match &variant {
            Variant::Unit => content.unit_variant().map(|()| 0),
            Variant::Newtype(inner) => {
                let number = at!(*inner, content.newtype_variant());
                self.content(number)
            }
            Variant::Tuple(parts) => {
                let inner = Making::<N> { is: Type::Tuple(parts.clone()), swallows: self.swallows };
                content.tuple_variant(parts.len(), inner).map(|Made(number)| number)
            }
            Variant::Struct(names, parts) => {
                let inner = Making::<N> { is: Type::Struct(names, parts.clone()), swallows: self.swallows };
                content.struct_variant(names, inner).map(|Made(number)| number)
            }
        }?;
        Ok(Made(number.wrapping_mul(5).wrapping_add(index.into())))
    }
}

/// SplitMix64.
struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }
    fn one<X: Copy>(&mut self, of: &[X]) -> X {
        of[self.below(of.len())]
    }
}

/// A graph whose later types stand deeper, now and then with an edge back.
fn graph(rng: &mut Rng) -> Vec<Node> {
    (0..NODES).map(|at| made_up(rng, at)).collect()
}

fn made_up(rng: &mut Rng, at: usize) -> Node {
    let content = |rng: &mut Rng| {
        let back = rng.below(8) == 0;
        if back { rng.below(NODES) } else { at + 1 + rng.below(NODES - at - 1) }
    };
    let contents = |rng: &mut Rng, n: usize| (0..n).map(|_| content(rng)).collect::<Vec<_>>();
    // The last ones are leaves, so that most graphs end.
    let kind = match at {
        0 => 2 + rng.below(10),
        _ if at + 3 >= NODES => 0,
        _ => rng.below(12),
    };
    let is = match kind {
        0 | 1 => Type::Leaf(match rng.below(12) {
            0 => Leaf::Unit,
            1 => Leaf::Bool,
            2 => Leaf::U8,
            3 => Leaf::U64,
            4 => Leaf::I32,
            5 => Leaf::U128,
            6 => Leaf::F64,
            7 => Leaf::Char,
            8 => Leaf::Str,
            9 => Leaf::String,
            10 => Leaf::Bytes,
            _ => Leaf::ByteBuf,
        }),
        2 => Type::Newtype(content(rng)),
        3 | 4 => Type::Option(content(rng)),
        5 => Type::Seq(content(rng)),
        6 => Type::Map(content(rng), content(rng)),
        7 => {
            let n = rng.below(4);
            Type::Tuple(contents(rng, n))
        }
        8 | 9 => {
            let names = rng.one(&NAMES);
            Type::Struct(names, contents(rng, names.len()))
        }
        _ => {
            let names = rng.one(&NAMES);
            let variant = |rng: &mut Rng| match rng.below(4) {
                0 => Variant::Unit,
                1 => Variant::Newtype(content(rng)),
                2 => {
                    let n = rng.below(3);
                    Variant::Tuple(contents(rng, n))
                }
                _ => {
                    let names = rng.one(&NAMES);
                    Variant::Struct(names, contents(rng, names.len()))
                }
            };
            Type::Enum(names, names.iter().map(|_| variant(rng)).collect())
        }
    };
    let takes = match rng.below(16) {
        0 => Takes::None,
        1 | 2 => Takes::AtLeast(rng.one(&[1, 2, 3, 8, 17, 1 << 20])),
        3 => Takes::Rest(2, rng.below(2) as u64),
        4 => Takes::Rest(3, rng.below(3) as u64),
        _ => Takes::All,
    };
    Node { is, takes, swallows: rng.below(16) == 0, fickle: rng.below(64) == 0 }
}

#[test]
fn their_shapes_are_what_they_were() {
    let mut pinned: BTreeMap<u64, &str> = BTreeMap::new();
    for line in PINNED.lines() {
        let (seed, shape) = line.split_once(' ').expect("a number and a shape");
        pinned.insert(seed.parse().expect("a number"), shape);
    }
    let mut wrong = 0;
    for seed in (0..TYPES).chain(MORE) {
        let made_up = graph(&mut Rng(seed));
        GRAPH.with_borrow_mut(|graph| graph.clone_from(&made_up));
        ASKED.set(0);
        let (_, shape) = shape_encoding::<Made<0>>().expect("all of these have one");
        if pinned.get(&seed) != Some(&shape.to_string().as_str()) {
            println!("{seed} {shape}");
            wrong += 1;
        }
    }
    assert_eq!(wrong, 0, "shapes changed, or are new");
    assert_eq!(pinned.len(), TYPES as usize + MORE.len());
}
