//! A value in postcard's bytes, with every field or not at all.
//!
//! postcard does not describe itself. Where a field is left out, what follows is read in its place, and
//! can even encode to the same bytes again. serde tells a serializer of each field that
//! `skip_serializing_if` leaves out of a struct (`skip_field`), and postcard's does not listen. [`Strict`]
//! passes everything on to postcard's, and fails there. Of a tuple struct serde tells only how many fields
//! are written: they are counted here, for comparison with what comes back.

use crate::error::NotEncodable;
use serde::ser::{self, Serialize, Serializer};
use std::{cell::Cell, fmt};

/// Appends a value's encoding to a buffer.
#[inline]
pub(crate) fn encode<V: Serialize>(value: &V, buffer: Vec<u8>) -> Result<(Vec<u8>, Tuples), NotEncodable> {
    let seen = Seen::default();
    match postcard::to_extend(&Strict { inner: value, seen: &seen }, buffer) {
        Ok(buffer) => Ok((buffer, seen.tuples.get())),
        Err(_) if seen.left_out.get() => Err(NotEncodable::RoundTrip),
        Err(_) => Err(NotEncodable::Serialize),
    }
}

/// How many tuple structs and tuple variants were written, and how many fields they had in all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tuples {
    count: usize,
    fields: usize,
}

#[derive(Default)]
struct Seen {
    left_out: Cell<bool>,
    tuples: Cell<Tuples>,
}

impl Seen {
    fn tuple(&self, len: usize) {
        let Tuples { count, fields } = self.tuples.get();
        self.tuples.set(Tuples { count: count.wrapping_add(1), fields: fields.wrapping_add(len) });
    }

    fn field_left_out<E: ser::Error>(&self) -> E {
        self.left_out.set(true);
        E::custom("a field is left out")
    }
}

/// A serializer, what it returns for compound values, or a reference to a value for it.
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
        self.inner.serialize(self.with(serializer))
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
    type SerializeSeq = Strict<'s, S::SerializeSeq>;
    type SerializeTuple = Strict<'s, S::SerializeTuple>;
    type SerializeTupleStruct = Strict<'s, S::SerializeTupleStruct>;
    type SerializeTupleVariant = Strict<'s, S::SerializeTupleVariant>;
    type SerializeMap = Strict<'s, S::SerializeMap>;
    type SerializeStruct = Strict<'s, S::SerializeStruct>;
    type SerializeStructVariant = Strict<'s, S::SerializeStructVariant>;

    #[inline]
    fn is_human_readable(&self) -> bool {
        self.inner.is_human_readable()
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
        let Strict { inner, seen } = self;
        Ok(Strict { inner: inner.serialize_seq(len)?, seen })
    }

    #[inline]
    fn serialize_tuple(self, len: usize) -> Result<Self::SerializeTuple, S::Error> {
        let Strict { inner, seen } = self;
        Ok(Strict { inner: inner.serialize_tuple(len)?, seen })
    }

    #[inline]
    fn serialize_tuple_struct(
        self,
        name: &'static str,
        len: usize,
    ) -> Result<Self::SerializeTupleStruct, S::Error> {
        let Strict { inner, seen } = self;
        seen.tuple(len);
        Ok(Strict { inner: inner.serialize_tuple_struct(name, len)?, seen })
    }

    #[inline]
    fn serialize_tuple_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        len: usize,
    ) -> Result<Self::SerializeTupleVariant, S::Error> {
        let Strict { inner, seen } = self;
        seen.tuple(len);
        Ok(Strict { inner: inner.serialize_tuple_variant(name, index, variant, len)?, seen })
    }

    #[inline]
    fn serialize_map(self, len: Option<usize>) -> Result<Self::SerializeMap, S::Error> {
        let Strict { inner, seen } = self;
        Ok(Strict { inner: inner.serialize_map(len)?, seen })
    }

    #[inline]
    fn serialize_struct(self, name: &'static str, len: usize) -> Result<Self::SerializeStruct, S::Error> {
        let Strict { inner, seen } = self;
        Ok(Strict { inner: inner.serialize_struct(name, len)?, seen })
    }

    #[inline]
    fn serialize_struct_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        len: usize,
    ) -> Result<Self::SerializeStructVariant, S::Error> {
        let Strict { inner, seen } = self;
        Ok(Strict { inner: inner.serialize_struct_variant(name, index, variant, len)?, seen })
    }
}

macro_rules! compound {
    ($($trait:ident: $($method:ident($($key:ident)?)),+ $({ $skip_field:ident })?;)*) => {$(
        impl<S: ser::$trait> ser::$trait for Strict<'_, S> {
            type Ok = S::Ok;
            type Error = S::Error;

            $(#[inline]
            fn $method<V: Serialize + ?Sized>(
                &mut self,
                $($key: &'static str,)?
                value: &V,
            ) -> Result<(), S::Error> {
                let value = self.with(value);
                self.inner.$method($($key,)? &value)
            })+

            $(#[inline]
            fn $skip_field(&mut self, _: &'static str) -> Result<(), S::Error> {
                Err(self.seen.field_left_out())
            })?

            #[inline]
            fn end(self) -> Result<S::Ok, S::Error> {
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
