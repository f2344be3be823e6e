//! A value in postcard's bytes, with every field or not at all.
//!
//! postcard does not describe itself. Where a field is left out, what follows is read in its place, and
//! can even encode to the same bytes again. serde tells a serializer of each field that
//! `skip_serializing_if` leaves out of a struct (`skip_field`), and postcard's does not listen. [`Strict`]
//! passes everything on to postcard's, and fails there; and where a sequence, map or tuple has more or fewer
//! elements than were announced. Of a tuple struct serde tells only how many fields are written: they are noted
//! here, for comparison with what comes back.
//!
//! It also notes whether the value was written as derives write it, see [`Notes::plain`].
//!
//! Values that nest too deeply fail as well: who reads them back needs a stack frame for each level, and a stack that
//! overflows ends the process.

use crate::error::NotEncodable;
use serde::ser::{self, Serialize, Serializer};
use std::{
    any::type_name,
    cell::{Cell, RefCell},
    fmt,
    hash::{DefaultHasher, Hash as _, Hasher as _},
};

/// How many values may stand in one another, in a session and in a value of a `SessionMap`: as many as serde_json
/// reads.
pub(crate) const LEVELS: u8 = 128;

/// Appends a value's encoding to a buffer. `known`: the structs that were met when the type was looked at.
#[inline]
pub(crate) fn encode<V: Serialize>(
    value: &V,
    known: &[Layout],
    buffer: Vec<u8>,
) -> Result<(Vec<u8>, Notes), NotEncodable> {
    encode_seen(value, buffer, &Seen { known, ..Seen::default() })
}

/// Looks at how a value is written: notes the structs, and returns the calls, as [`Calls`] of a reader that met it.
pub(crate) fn look<V: Serialize>(value: &V, structs: &mut Vec<Layout>) -> Option<Calls> {
    let seen = Seen { look: Some(RefCell::default()), ..Seen::default() };
    encode_seen(value, Vec::new(), &seen).ok()?;
    let (calls, found) = seen.look?.into_inner();
    for found in found {
        if !structs.contains(&found) {
            structs.push(found);
        }
    }
    Some(calls)
}

#[inline]
fn encode_seen<V: Serialize>(
    value: &V,
    buffer: Vec<u8>,
    seen: &Seen<'_>,
) -> Result<(Vec<u8>, Notes), NotEncodable> {
    match postcard::to_extend(&Strict { inner: value, seen, place: Place::default() }, buffer) {
        Ok(buffer) => Ok((buffer, Notes { tuples: seen.tuples.get(), plain: !seen.odd.get() })),
        Err(_) => Err(seen.fault.get().unwrap_or(NotEncodable::Serialize)),
    }
}

/// Which fields of a struct are written: their number, and where each lies in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    /// Of the type, as the compiler names it.
    name: &'static str,
    fields: usize,
    places: u64,
}

/// What was noted while a value was written.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Notes {
    pub(crate) tuples: Tuples,
    /// All was written by the standard library's types, and by structs whose layout is known and of which each field lies
    /// in it, so that none was made for the occasion (as `serialize_with` makes them). So there is no enum of the user's,
    /// of which a variant may be left out where it is read, nor a tuple struct, of which a field may be left out where it
    /// is written. (What is behind a reference or a box counts as lying elsewhere: structs in a `Vec` are not plain.)
    pub(crate) plain: bool,
}

/// Which tuple structs and tuple variants were written with how many fields, in any order: a sum of hashes, since what
/// stands in a `HashMap` comes back in another one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tuples(u64);

/// Which kinds of values were written, or read, in this order: a hash of their tags.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Calls(u64);

impl Calls {
    pub(crate) fn then(self, tag: u8) -> Calls {
        // FNV-1a.
        Calls((self.0 ^ u64::from(tag)).wrapping_mul(0x0100_0000_01b3))
    }
}

/// The kinds of values, as the wire format's page numbers them.
pub(crate) mod tag {
    pub(crate) const UNIT: u8 = 0x01;
    pub(crate) const BOOL: u8 = 0x02;
    pub(crate) const I8: u8 = 0x03;
    pub(crate) const I16: u8 = 0x04;
    pub(crate) const I32: u8 = 0x05;
    pub(crate) const I64: u8 = 0x06;
    pub(crate) const I128: u8 = 0x07;
    pub(crate) const U8: u8 = 0x08;
    pub(crate) const U16: u8 = 0x09;
    pub(crate) const U32: u8 = 0x0a;
    pub(crate) const U64: u8 = 0x0b;
    pub(crate) const U128: u8 = 0x0c;
    pub(crate) const F32: u8 = 0x0d;
    pub(crate) const F64: u8 = 0x0e;
    pub(crate) const CHAR: u8 = 0x0f;
    pub(crate) const STR: u8 = 0x10;
    pub(crate) const BYTES: u8 = 0x11;
    pub(crate) const OPTION: u8 = 0x20;
    pub(crate) const SEQ: u8 = 0x21;
    pub(crate) const MAP: u8 = 0x22;
    pub(crate) const TUPLE: u8 = 0x23;
    pub(crate) const STRUCT: u8 = 0x24;
    pub(crate) const ENUM: u8 = 0x25;
}

#[derive(Default)]
struct Seen<'k> {
    /// Why it was this serializer that failed.
    fault: Cell<Option<NotEncodable>>,
    level: Cell<u8>,
    tuples: Cell<Tuples>,
    odd: Cell<bool>,
    known: &'k [Layout],
    /// For [`look`] alone.
    look: Option<RefCell<(Calls, Vec<Layout>)>>,
}

impl Seen<'_> {
    fn tuple(&self, name: &'static str, variant: Option<u32>, len: usize) {
        let mut hasher = DefaultHasher::new();
        (name, variant, len).hash(&mut hasher);
        let Tuples(sum) = self.tuples.get();
        self.tuples.set(Tuples(sum.wrapping_add(hasher.finish())));
    }

    #[inline]
    fn call(&self, tag: u8) {
        if let Some(look) = &self.look {
            let (calls, _) = &mut *look.borrow_mut();
            *calls = calls.then(tag);
        }
    }

    #[inline]
    fn structure(&self, it: Layout) {
        if let Some(look) = &self.look {
            look.borrow_mut().1.push(it);
        }
        // Where the name lies first: comparing texts is for those that are equal, and elsewhere.
        let same = |known: &Layout| {
            (known.places, known.fields) == (it.places, it.fields)
                && (std::ptr::eq(known.name, it.name) || known.name == it.name)
        };
        if !self.known.iter().any(same) {
            self.odd.set(true);
        }
    }

    fn fail<E: ser::Error>(&self, fault: NotEncodable) -> E {
        self.fault.set(Some(fault));
        E::custom(fault)
    }
}

/// Whether a type is the standard library's, or `SessionMap`'s, of which is known what they write; by its name. Pointers
/// count as what they lead to, boxes as none, since they pass on what may be anybody's.
#[inline]
fn is_known<V: ?Sized>() -> bool {
    const MODULES: [&str; 14] = [
        "alloc::vec::",
        "alloc::string::",
        "alloc::collections::",
        "core::option::",
        "core::num::",
        "core::time::",
        "core::marker::",
        "core::ops::range::",
        "std::collections::",
        "std::path::",
        "std::time::",
        concat!(env!("CARGO_CRATE_NAME"), "::map::"),
        "(",
        "[",
    ];
    const PRIMITIVES: [&str; 18] = [
        "bool", "i8", "i16", "i32", "i64", "i128", "isize", "u8", "u16", "u32", "u64", "u128", "usize",
        "f32", "f64", "char", "str", "()",
    ];
    let name = type_name::<V>();
    // As lists hand over their elements.
    let name = name.strip_prefix('&').unwrap_or(name);
    MODULES.iter().any(|module| name.starts_with(module)) || PRIMITIVES.contains(&name)
}

/// Where a value lies, and what it is.
#[derive(Clone, Copy, Default)]
struct Place {
    start: usize,
    len: usize,
    name: &'static str,
    known: bool,
}

impl Place {
    #[inline]
    fn of<V: ?Sized>(value: &V) -> Place {
        Place {
            start: std::ptr::from_ref(value).addr(),
            len: size_of_val(value),
            name: type_name::<V>(),
            known: is_known::<V>(),
        }
    }

    #[inline]
    fn holds(self, inner: Place) -> bool {
        let offset = inner.start.wrapping_sub(self.start);
        offset <= self.len && inner.len <= self.len - offset
    }
}

/// A serializer, or a reference to a value for it.
struct Strict<'s, X> {
    inner: X,
    seen: &'s Seen<'s>,
    /// Of a serializer: where the value lies that it is for.
    place: Place,
}

impl<'s, X> Strict<'s, X> {
    /// Notes a call that the standard library's types make.
    #[inline]
    fn call(&self, tag: u8) {
        self.seen.call(tag);
        if !self.place.known {
            self.seen.odd.set(true);
        }
    }

    #[inline]
    fn with<Y>(&self, inner: Y) -> Strict<'s, Y> {
        Strict { inner, seen: self.seen, place: self.place }
    }
}

impl<V: Serialize + ?Sized> Serialize for Strict<'_, &V> {
    #[inline]
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let level = self.seen.level.get();
        if level == LEVELS {
            return Err(self.seen.fail(NotEncodable::TooDeep));
        }
        self.seen.level.set(level + 1);
        let place = Place::of(self.inner);
        let result = self.inner.serialize(Strict { inner: serializer, seen: self.seen, place });
        self.seen.level.set(level);
        result
    }
}

/// What a serializer returns for compound values.
struct Compound<'s, X> {
    inner: X,
    seen: &'s Seen<'s>,
    /// How many elements the value said that it has, where their number is read back.
    announced: Option<usize>,
    written: usize,
    place: Place,
    /// Of a struct: see [`Layout`].
    places: u64,
}

impl<'s, X> Compound<'s, X> {
    #[inline]
    fn new<E>(
        inner: Result<X, E>,
        seen: &'s Seen<'s>,
        announced: Option<usize>,
        place: Place,
    ) -> Result<Self, E> {
        inner.map(|inner| Compound { inner, seen, announced, written: 0, place, places: 0 })
    }
}

macro_rules! forward {
    ($($method:ident($($argument:ident: $type:ty),*) $tag:ident;)*) => {$(
        #[inline]
        fn $method(self, $($argument: $type),*) -> Result<S::Ok, S::Error> {
            self.call(tag::$tag);
            self.inner.$method($($argument),*)
        }
    )*};
}

impl<'s, S: Serializer> Serializer for Strict<'s, S> {
    type Ok = S::Ok;
    type Error = S::Error;
    type SerializeSeq = Compound<'s, S::SerializeSeq>;
    type SerializeTuple = Compound<'s, S::SerializeTuple>;
    type SerializeTupleStruct = Compound<'s, S::SerializeTupleStruct>;
    type SerializeTupleVariant = Compound<'s, S::SerializeTupleVariant>;
    type SerializeMap = Compound<'s, S::SerializeMap>;
    type SerializeStruct = Compound<'s, S::SerializeStruct>;
    type SerializeStructVariant = Compound<'s, S::SerializeStructVariant>;

    #[inline]
    fn is_human_readable(&self) -> bool {
        // As postcard's.
        false
    }

    forward! {
        serialize_bool(value: bool) BOOL;
        serialize_i8(value: i8) I8;
        serialize_i16(value: i16) I16;
        serialize_i32(value: i32) I32;
        serialize_i64(value: i64) I64;
        serialize_i128(value: i128) I128;
        serialize_u8(value: u8) U8;
        serialize_u16(value: u16) U16;
        serialize_u32(value: u32) U32;
        serialize_u64(value: u64) U64;
        serialize_u128(value: u128) U128;
        serialize_f32(value: f32) F32;
        serialize_f64(value: f64) F64;
        serialize_char(value: char) CHAR;
        serialize_str(value: &str) STR;
        serialize_bytes(value: &[u8]) BYTES;
        serialize_none() OPTION;
        serialize_unit() UNIT;
        serialize_unit_struct(name: &'static str) UNIT;
    }

    #[inline]
    fn serialize_unit_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
    ) -> Result<S::Ok, S::Error> {
        self.call(tag::ENUM);
        self.inner.serialize_unit_variant(name, index, variant)
    }

    #[inline]
    fn collect_str<V: fmt::Display + ?Sized>(self, value: &V) -> Result<S::Ok, S::Error> {
        self.call(tag::STR);
        self.inner.collect_str(value)
    }

    #[inline]
    fn serialize_some<V: Serialize + ?Sized>(self, value: &V) -> Result<S::Ok, S::Error> {
        self.call(tag::OPTION);
        let value = self.with(value);
        self.inner.serialize_some(&value)
    }

    #[inline]
    fn serialize_newtype_struct<V: Serialize + ?Sized>(
        self,
        name: &'static str,
        value: &V,
    ) -> Result<S::Ok, S::Error> {
        let value = self.with(value);
        self.inner.serialize_newtype_struct(name, &value)
    }

    #[inline]
    fn serialize_newtype_variant<V: Serialize + ?Sized>(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        value: &V,
    ) -> Result<S::Ok, S::Error> {
        self.call(tag::ENUM);
        let value = self.with(value);
        self.inner.serialize_newtype_variant(name, index, variant, &value)
    }

    #[inline]
    fn serialize_seq(self, len: Option<usize>) -> Result<Self::SerializeSeq, S::Error> {
        self.call(tag::SEQ);
        Compound::new(self.inner.serialize_seq(len), self.seen, len, self.place)
    }

    #[inline]
    fn serialize_tuple(self, len: usize) -> Result<Self::SerializeTuple, S::Error> {
        self.call(tag::TUPLE);
        Compound::new(self.inner.serialize_tuple(len), self.seen, Some(len), self.place)
    }

    #[inline]
    fn serialize_tuple_struct(
        self,
        name: &'static str,
        len: usize,
    ) -> Result<Self::SerializeTupleStruct, S::Error> {
        self.call(tag::TUPLE);
        self.seen.tuple(name, None, len);
        Compound::new(self.inner.serialize_tuple_struct(name, len), self.seen, Some(len), self.place)
    }

    #[inline]
    fn serialize_tuple_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        len: usize,
    ) -> Result<Self::SerializeTupleVariant, S::Error> {
        self.call(tag::ENUM);
        self.seen.tuple(name, Some(index), len);
        let inner = self.inner.serialize_tuple_variant(name, index, variant, len);
        Compound::new(inner, self.seen, Some(len), self.place)
    }

    #[inline]
    fn serialize_map(self, len: Option<usize>) -> Result<Self::SerializeMap, S::Error> {
        self.call(tag::MAP);
        Compound::new(self.inner.serialize_map(len), self.seen, len, self.place)
    }

    #[inline]
    fn serialize_struct(self, name: &'static str, len: usize) -> Result<Self::SerializeStruct, S::Error> {
        self.seen.call(tag::STRUCT);
        Compound::new(self.inner.serialize_struct(name, len), self.seen, Some(len), self.place)
    }

    #[inline]
    fn serialize_struct_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        len: usize,
    ) -> Result<Self::SerializeStructVariant, S::Error> {
        self.call(tag::ENUM);
        let inner = self.inner.serialize_struct_variant(name, index, variant, len);
        Compound::new(inner, self.seen, None, self.place)
    }
}

macro_rules! compound {
    ($($trait:ident: $($method:ident($($key:ident)?)),+ $({ $skip_field:ident })?;)*) => {$(
        impl<S: ser::$trait> ser::$trait for Compound<'_, S> {
            type Ok = S::Ok;
            type Error = S::Error;

            $(#[inline]
            fn $method<V: Serialize + ?Sized>(
                &mut self,
                $($key: &'static str,)?
                value: &V,
            ) -> Result<(), S::Error> {
                // Of a map's two calls the second counts.
                self.written += usize::from(stringify!($method) != "serialize_key");
                $(
                    // Of structs alone: what is in a list or a map lies elsewhere.
                    let _: &str = $key;
                    let field = Place::of(value);
                    if !self.place.holds(field) {
                        self.seen.odd.set(true);
                    }
                    let offset = field.start.wrapping_sub(self.place.start) as u64;
                    // FNV-1a, a word at a time.
                    self.places = (self.places ^ offset << 32 ^ field.len as u64).wrapping_mul(0x0100_0000_01b3);
                )?
                self.inner.$method($($key,)? &Strict { inner: value, seen: self.seen, place: self.place })
            })+

            $(#[inline]
            fn $skip_field(&mut self, _: &'static str) -> Result<(), S::Error> {
                Err(self.seen.fail(NotEncodable::RoundTrip))
            })?

            #[inline]
            fn end(self) -> Result<S::Ok, S::Error> {
                if self.announced.is_some_and(|announced| announced != self.written) {
                    // The names of a struct say how many are read; some types that are written by hand announce
                    // another number.
                    if stringify!($trait) != "SerializeStruct" {
                        return Err(self.seen.fail(NotEncodable::RoundTrip));
                    }
                    self.seen.odd.set(true);
                }
                if stringify!($trait) == "SerializeStruct" {
                    let Compound { place: Place { name, .. }, written: fields, places, .. } = self;
                    self.seen.structure(Layout { name, fields, places });
                }
                self.inner.end()
            }
        }
    )*};
}

compound! {
    SerializeSeq: serialize_element();
    SerializeTuple: serialize_element();
    SerializeTupleStruct: serialize_field();
    SerializeTupleVariant: serialize_field();
    SerializeMap: serialize_key(), serialize_value();
    SerializeStruct: serialize_field(key) { skip_field };
    SerializeStructVariant: serialize_field(key) { skip_field };
}
