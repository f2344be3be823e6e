//! A value in postcard's bytes, with every field or not at all.
//!
//! postcard does not describe itself. Where a field is left out, what follows is read in its place, and
//! can even encode to the same bytes again. serde tells a serializer of each field that
//! `skip_serializing_if` leaves out of a struct (`skip_field`), and postcard's does not listen. [`Strict`]
//! passes everything on to postcard's, and fails there; and where a sequence, map or tuple has more or fewer
//! elements than were announced. Of a tuple struct serde tells only how many fields are written: they are noted
//! here, for comparison with what comes back.
//!
//! Values that nest too deeply fail as well: who reads them back needs a stack frame for each level, and a stack that
//! overflows ends the process.

use crate::error::NotEncodable;
use serde::ser::{self, Serialize, Serializer};
use std::{
    cell::Cell,
    fmt,
    hash::{DefaultHasher, Hash as _, Hasher as _},
};

/// How many values may stand in one another, in a session and in a value of a `SessionMap`: as many as serde_json
/// reads.
pub(crate) const LEVELS: u8 = 128;

/// Appends a value's encoding to a buffer.
#[inline]
pub(crate) fn encode<V: Serialize>(value: &V, buffer: Vec<u8>) -> Result<(Vec<u8>, Tuples), NotEncodable> {
    let seen = Seen::default();
    match postcard::to_extend(&Strict { inner: value, seen: &seen }, buffer) {
        Ok(buffer) => Ok((buffer, seen.tuples.get())),
        Err(_) => Err(seen.fault.get().unwrap_or(NotEncodable::Serialize)),
    }
}

/// Which tuple structs and tuple variants were written with how many fields, in any order: a sum of hashes, since what
/// stands in a `HashMap` comes back in another one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tuples(u64);

#[derive(Default)]
struct Seen {
    /// Why it was this serializer that failed.
    fault: Cell<Option<NotEncodable>>,
    level: Cell<u8>,
    tuples: Cell<Tuples>,
}

impl Seen {
    fn tuple(&self, name: &'static str, variant: Option<u32>, len: usize) {
        let mut hasher = DefaultHasher::new();
        (name, variant, len).hash(&mut hasher);
        let Tuples(sum) = self.tuples.get();
        self.tuples.set(Tuples(sum.wrapping_add(hasher.finish())));
    }

    fn fail<E: ser::Error>(&self, fault: NotEncodable) -> E {
        self.fault.set(Some(fault));
        E::custom(fault)
    }
}

/// A serializer, or a reference to a value for it.
struct Strict<'s, X> {
    inner: X,
    seen: &'s Seen,
}

impl<'s, X> Strict<'s, X> {
    #[inline]
    fn with<Y>(&self, inner: Y) -> Strict<'s, Y> {
        Strict { inner, seen: self.seen }
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
        let result = self.inner.serialize(self.with(serializer));
        self.seen.level.set(level);
        result
    }
}

/// What a serializer returns for compound values.
struct Compound<'s, X> {
    inner: X,
    seen: &'s Seen,
    /// How many elements the value said that it has, where their number is read back.
    announced: Option<usize>,
    written: usize,
}

impl<'s, X> Compound<'s, X> {
    #[inline]
    fn new<E>(inner: Result<X, E>, seen: &'s Seen, announced: Option<usize>) -> Result<Self, E> {
        inner.map(|inner| Compound { inner, seen, announced, written: 0 })
    }
}

macro_rules! forward {
    ($($method:ident($($argument:ident: $type:ty),*);)*) => {$(
        #[inline]
        fn $method(self, $($argument: $type),*) -> Result<S::Ok, S::Error> {
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
        serialize_bool(value: bool);
        serialize_i8(value: i8);
        serialize_i16(value: i16);
        serialize_i32(value: i32);
        serialize_i64(value: i64);
        serialize_i128(value: i128);
        serialize_u8(value: u8);
        serialize_u16(value: u16);
        serialize_u32(value: u32);
        serialize_u64(value: u64);
        serialize_u128(value: u128);
        serialize_f32(value: f32);
        serialize_f64(value: f64);
        serialize_char(value: char);
        serialize_str(value: &str);
        serialize_bytes(value: &[u8]);
        serialize_none();
        serialize_unit();
        serialize_unit_struct(name: &'static str);
        serialize_unit_variant(name: &'static str, index: u32, variant: &'static str);
    }

    #[inline]
    fn collect_str<V: fmt::Display + ?Sized>(self, value: &V) -> Result<S::Ok, S::Error> {
        self.inner.collect_str(value)
    }

    #[inline]
    fn serialize_some<V: Serialize + ?Sized>(self, value: &V) -> Result<S::Ok, S::Error> {
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
        let value = self.with(value);
        self.inner.serialize_newtype_variant(name, index, variant, &value)
    }

    #[inline]
    fn serialize_seq(self, len: Option<usize>) -> Result<Self::SerializeSeq, S::Error> {
        Compound::new(self.inner.serialize_seq(len), self.seen, len)
    }

    #[inline]
    fn serialize_tuple(self, len: usize) -> Result<Self::SerializeTuple, S::Error> {
        Compound::new(self.inner.serialize_tuple(len), self.seen, Some(len))
    }

    #[inline]
    fn serialize_tuple_struct(
        self,
        name: &'static str,
        len: usize,
    ) -> Result<Self::SerializeTupleStruct, S::Error> {
        self.seen.tuple(name, None, len);
        Compound::new(self.inner.serialize_tuple_struct(name, len), self.seen, Some(len))
    }

    #[inline]
    fn serialize_tuple_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        len: usize,
    ) -> Result<Self::SerializeTupleVariant, S::Error> {
        self.seen.tuple(name, Some(index), len);
        Compound::new(self.inner.serialize_tuple_variant(name, index, variant, len), self.seen, Some(len))
    }

    #[inline]
    fn serialize_map(self, len: Option<usize>) -> Result<Self::SerializeMap, S::Error> {
        Compound::new(self.inner.serialize_map(len), self.seen, len)
    }

    #[inline]
    fn serialize_struct(self, name: &'static str, len: usize) -> Result<Self::SerializeStruct, S::Error> {
        // Its names say how many are read; some types that are written by hand announce another number.
        Compound::new(self.inner.serialize_struct(name, len), self.seen, None)
    }

    #[inline]
    fn serialize_struct_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        len: usize,
    ) -> Result<Self::SerializeStructVariant, S::Error> {
        Compound::new(self.inner.serialize_struct_variant(name, index, variant, len), self.seen, None)
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
                self.inner.$method($($key,)? &Strict { inner: value, seen: self.seen })
            })+

            $(#[inline]
            fn $skip_field(&mut self, _: &'static str) -> Result<(), S::Error> {
                Err(self.seen.fail(NotEncodable::RoundTrip))
            })?

            #[inline]
            fn end(self) -> Result<S::Ok, S::Error> {
                if self.announced.is_some_and(|announced| announced != self.written) {
                    return Err(self.seen.fail(NotEncodable::RoundTrip));
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
