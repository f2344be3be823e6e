//! [`SessionMap`], the ready session type for untyped use, and the encoding of the values in it.
//!
//! ```text
//! SessionMap = postcard(BTreeMap<String, bytes>)     bytes: one encoded value
//! value      = head || content                       head: postcard(Head)
//! content    = value*          after List(n): n of them
//!            | (key value)*    after Map(n): n of them, key: postcard(str), in ascending order
//!            | nothing         after any other head
//! ```

use crate::encode::LEVELS;
use crate::error::{MapError, MapFault};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;

use serde::de::value::BorrowedStrDeserializer;
use serde::de::{DeserializeSeed, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de, forward_to_deserialize_any, ser};

/// A session of named values of any type, for those who would rather not declare a struct.
///
/// ```
/// # use cookie_session::{MapError, Session, SessionMap, UpdateError};
/// async fn page(session: Session<SessionMap>) -> Result<String, UpdateError> {
///     let views = session.try_update(|map| {
///         let views = map.get("views")?.unwrap_or(0_u64) + 1;
///         map.insert("views", &views)?;
///         Ok::<_, MapError>(views)
///     })??;
///     Ok(format!("page {views}"))
/// }
/// ```
///
/// A struct of your own is smaller in the cookie (no names), checked by the compiler, and guarded
/// by the layer's schema and shape, which see nothing of what is in a map: here a changed type
/// shows as an error of [`get`](Self::get).
///
/// Every name is an ordinary one, `constructor` and `__proto__` too. What serde writes comes back
/// as it does from `serde_json`: integers are read in any width that holds them, a new field with
/// `#[serde(default)]` reads old values, `Some(None)` reads as `None`, and map keys are stored as
/// text. Unlike there, infinities, NaN and bytes (`serde_bytes`) come back. As there, integer keys
/// and integers beyond 64 bits do not where serde buffers: in untagged and internally tagged enums
/// and in `flatten`.
///
/// A value takes one byte more than its content, or two for lists and maps. Each number in a
/// `Vec<u8>` is a value: prefer `serde_bytes`.
///
/// Equal content has one encoding, whatever the order of the calls and even of a `HashMap` in it,
/// so to write again what is there is no change of the session. No method panics, unless the serde
/// code of a value does.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionMap {
    entries: BTreeMap<String, Encoded>,
}

impl SessionMap {
    /// An empty map, as [`Default`] makes.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The value of `key`; `None` if there is none. `V` may borrow from the map, as `&str` does.
    ///
    /// A `None` that was inserted is a value: as an `Option` it reads as `Some(None)`.
    ///
    /// # Errors
    ///
    /// If what is stored does not read as a `V`. To take that for absent: `.unwrap_or_default()`.
    pub fn get<'a, V: Deserialize<'a>>(&'a self, key: &str) -> Result<Option<V>, MapError> {
        let Some(value) = self.entries.get(key) else {
            return Ok(None);
        };
        let mut decoder = Decoder { rest: &value.0, levels: LEVELS };
        match V::deserialize(&mut decoder) {
            Ok(value) if decoder.rest.is_empty() => Ok(Some(value)),
            Ok(_) => Err(MapError::new::<V>(key, MapFault::Unreadable)),
            Err(fault) => Err(MapError::new::<V>(key, fault)),
        }
    }

    /// Stores `value` under `key`, in place of what was there.
    ///
    /// # Errors
    ///
    /// If `value` nests more than 128 levels deep (lists, maps, structs, `Some` and the content of
    /// enums count), if a map in it has a key other than text, `char`, integer, `bool` or unit
    /// variant, or two keys of one text, or if its `Serialize` fails. Then the map is unchanged.
    pub fn insert<V: Serialize + ?Sized>(
        &mut self,
        key: impl Into<String>,
        value: &V,
    ) -> Result<(), MapError> {
        let key = key.into();
        match value.serialize(Encoder { levels: LEVELS }) {
            Ok(value) => {
                self.entries.insert(key, Encoded(value));
                Ok(())
            }
            Err(fault) => Err(MapError::new::<V>(key, fault)),
        }
    }

    /// Removes `key` and its value; `false` if it was not there.
    pub fn remove(&mut self, key: &str) -> bool {
        self.entries.remove(key).is_some()
    }

    /// Whether there is a value under `key`, of whatever type.
    #[must_use]
    pub fn contains_key(&self, key: &str) -> bool {
        self.entries.contains_key(key)
    }

    /// The keys in ascending order.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// How many values there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is no value.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Removes every value. The session itself stays: to sign out, clear the session.
    pub fn clear(&mut self) {
        self.entries.clear();
    }
}

/// Shows how many entries there are: keys and values are the session's content.
impl fmt::Debug for SessionMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionMap").field("len", &self.len()).finish_non_exhaustive()
    }
}

impl std::error::Error for MapFault {}

impl ser::Error for MapFault {
    fn custom<M: fmt::Display>(_: M) -> Self {
        Self::Refused
    }
}

impl de::Error for MapFault {
    fn custom<M: fmt::Display>(_: M) -> Self {
        Self::OtherType
    }

    fn missing_field(field: &'static str) -> Self {
        Self::MissingField(field)
    }
}

/// A value in its encoded form, which [`SessionMap::get`] alone decodes. So the map's type does not
/// contain itself, and opening, cloning, comparing and dropping a map do not recurse, whatever it
/// holds. (A tree of values would take
/// stack for each level of it, and a cookie has room for many.)
#[derive(Clone, PartialEq, Eq)]
struct Encoded(Vec<u8>);

impl Serialize for Encoded {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Encoded {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_byte_buf(Bytes)
    }
}

/// `shape.rs` knows its name: it takes all.
struct Bytes;

impl Visitor<'_> for Bytes {
    type Value = Encoded;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("bytes")
    }

    fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Encoded, E> {
        Ok(Encoded(bytes.to_vec()))
    }
}

/// What a value begins with. The order is wire format: new heads go to the end, and a release that
/// does not know one keeps the value and fails in `get` alone. An integer has one head whatever its
/// width; postcard's varints make 128 bits cost nothing.
#[derive(Serialize, Deserialize)]
enum Head<'a> {
    Null,
    False,
    True,
    Unsigned(u128),
    Negative(i128),
    Float(f64),
    Text(&'a str),
    Bytes(&'a [u8]),
    List(usize),
    Map(usize),
}

/// One level less of [`LEVELS`]. Both directions count alike, so that what goes in comes out. `Some`
/// counts, though it takes no bytes: a type that contains itself through it alone would read a
/// number for ever.
fn deeper(levels: u8) -> Result<u8, MapFault> {
    levels.checked_sub(1).ok_or(MapFault::TooDeep)
}

type Encoding = Result<Vec<u8>, MapFault>;

fn append<T: Serialize + ?Sized>(bytes: Vec<u8>, item: &T) -> Encoding {
    postcard::to_extend(item, bytes).map_err(|_| MapFault::Refused)
}

/// Encodes one value. Like the decoder it is human readable (serde's default): what serde buffers
/// for untagged and internally tagged enums and for `flatten` always says so, and an `IpAddr` or a
/// `Uuid` must get one answer both ways.
#[derive(Clone, Copy)]
struct Encoder {
    levels: u8,
}

impl Encoder {
    fn deeper(self) -> Result<Self, MapFault> {
        Ok(Self { levels: deeper(self.levels)? })
    }

    fn list(self, variant: Option<&'static str>) -> Result<ListEncoder, MapFault> {
        Ok(ListEncoder { variant, items: self.deeper()?, len: 0, content: Vec::new() })
    }

    fn map(self, variant: Option<&'static str>) -> Result<MapEncoder, MapFault> {
        Ok(MapEncoder { variant, values: self.deeper()?, key: None, entries: BTreeMap::new() })
    }
}

/// An enum's variant with content is a map of one entry, as in JSON.
fn of_variant(variant: &str, content: &[u8]) -> Encoding {
    let mut bytes = append(append(Vec::new(), &Head::Map(1))?, variant)?;
    bytes.extend_from_slice(content);
    Ok(bytes)
}

/// Serializer methods that pass a narrower number on to the widest.
macro_rules! widen {
    ($($method:ident($number:ty) => $widest:ident,)*) => {
        $(fn $method(self, value: $number) -> Encoding {
            self.$widest(value.into())
        })*
    };
}

impl Serializer for Encoder {
    type Ok = Vec<u8>;
    type Error = MapFault;
    type SerializeSeq = ListEncoder;
    type SerializeTuple = ListEncoder;
    type SerializeTupleStruct = ListEncoder;
    type SerializeTupleVariant = ListEncoder;
    type SerializeMap = MapEncoder;
    type SerializeStruct = MapEncoder;
    type SerializeStructVariant = MapEncoder;

    widen! {
        serialize_u8(u8) => serialize_u128,
        serialize_u16(u16) => serialize_u128,
        serialize_u32(u32) => serialize_u128,
        serialize_u64(u64) => serialize_u128,
        serialize_i8(i8) => serialize_i128,
        serialize_i16(i16) => serialize_i128,
        serialize_i32(i32) => serialize_i128,
        serialize_i64(i64) => serialize_i128,
        serialize_f32(f32) => serialize_f64,
    }

    fn serialize_u128(self, value: u128) -> Encoding {
        append(Vec::new(), &Head::Unsigned(value))
    }

    fn serialize_i128(self, value: i128) -> Encoding {
        match value.try_into() {
            Ok(unsigned) => self.serialize_u128(unsigned),
            Err(_) => append(Vec::new(), &Head::Negative(value)),
        }
    }

    fn serialize_f64(self, value: f64) -> Encoding {
        append(Vec::new(), &Head::Float(value))
    }

    fn serialize_bool(self, value: bool) -> Encoding {
        append(Vec::new(), if value { &Head::True } else { &Head::False })
    }

    fn serialize_char(self, value: char) -> Encoding {
        self.serialize_str(value.encode_utf8(&mut [0; 4]))
    }

    fn serialize_str(self, value: &str) -> Encoding {
        append(Vec::new(), &Head::Text(value))
    }

    fn serialize_bytes(self, value: &[u8]) -> Encoding {
        append(Vec::new(), &Head::Bytes(value))
    }

    fn serialize_none(self) -> Encoding {
        self.serialize_unit()
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Encoding {
        value.serialize(self.deeper()?)
    }

    fn serialize_unit(self) -> Encoding {
        append(Vec::new(), &Head::Null)
    }

    fn serialize_unit_struct(self, _: &'static str) -> Encoding {
        self.serialize_unit()
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, variant: &'static str) -> Encoding {
        self.serialize_str(variant)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, value: &T) -> Encoding {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        value: &T,
    ) -> Encoding {
        of_variant(variant, &value.serialize(self.deeper()?)?)
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<ListEncoder, MapFault> {
        self.list(None)
    }

    fn serialize_tuple(self, _: usize) -> Result<ListEncoder, MapFault> {
        self.list(None)
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<ListEncoder, MapFault> {
        self.list(None)
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<ListEncoder, MapFault> {
        self.deeper()?.list(Some(variant))
    }

    fn serialize_map(self, _: Option<usize>) -> Result<MapEncoder, MapFault> {
        self.map(None)
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<MapEncoder, MapFault> {
        self.map(None)
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<MapEncoder, MapFault> {
        self.deeper()?.map(Some(variant))
    }
}

struct ListEncoder {
    variant: Option<&'static str>,
    items: Encoder,
    len: usize,
    content: Vec<u8>,
}

impl ListEncoder {
    fn push<T: Serialize + ?Sized>(&mut self, item: &T) -> Result<(), MapFault> {
        self.content.append(&mut item.serialize(self.items)?);
        self.len += 1;
        Ok(())
    }

    fn finish(mut self) -> Encoding {
        let mut bytes = append(Vec::new(), &Head::List(self.len))?;
        bytes.append(&mut self.content);
        match self.variant {
            Some(variant) => of_variant(variant, &bytes),
            None => Ok(bytes),
        }
    }
}

/// serde's four list traits, which differ in the name of one method.
macro_rules! list {
    ($($trait:ident::$method:ident)*) => {
        $(impl ser::$trait for ListEncoder {
            type Ok = Vec<u8>;
            type Error = MapFault;

            fn $method<T: Serialize + ?Sized>(&mut self, item: &T) -> Result<(), MapFault> {
                self.push(item)
            }

            fn end(self) -> Encoding {
                self.finish()
            }
        })*
    };
}

list! {
    SerializeSeq::serialize_element
    SerializeTuple::serialize_element
    SerializeTupleStruct::serialize_field
    SerializeTupleVariant::serialize_field
}

struct MapEncoder {
    variant: Option<&'static str>,
    values: Encoder,
    key: Option<String>,
    entries: BTreeMap<String, Vec<u8>>,
}

impl MapEncoder {
    fn put<T: Serialize + ?Sized>(&mut self, key: String, value: &T) -> Result<(), MapFault> {
        match self.entries.entry(key) {
            Entry::Vacant(entry) => entry.insert(value.serialize(self.values)?),
            Entry::Occupied(_) => return Err(MapFault::SameKey),
        };
        Ok(())
    }

    fn finish(self) -> Encoding {
        let mut bytes = append(Vec::new(), &Head::Map(self.entries.len()))?;
        for (key, mut value) in self.entries {
            bytes = append(bytes, &key)?;
            bytes.append(&mut value);
        }
        match self.variant {
            Some(variant) => of_variant(variant, &bytes),
            None => Ok(bytes),
        }
    }
}

impl ser::SerializeMap for MapEncoder {
    type Ok = Vec<u8>;
    type Error = MapFault;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), MapFault> {
        let key = key.serialize(self.values)?;
        self.key = Some(match postcard::from_bytes(&key) {
            Ok(Head::Text(text)) => text.to_owned(),
            Ok(Head::Unsigned(number)) => number.to_string(),
            Ok(Head::Negative(number)) => number.to_string(),
            Ok(Head::True) => true.to_string(),
            Ok(Head::False) => false.to_string(),
            _ => return Err(MapFault::MapKey),
        });
        Ok(())
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), MapFault> {
        let key = self.key.take().ok_or(MapFault::Refused)?;
        self.put(key, value)
    }

    fn end(self) -> Encoding {
        self.finish()
    }
}

/// serde's two struct traits, which differ in their name alone.
macro_rules! fields {
    ($($trait:ident)*) => {
        $(impl ser::$trait for MapEncoder {
            type Ok = Vec<u8>;
            type Error = MapFault;

            fn serialize_field<T: Serialize + ?Sized>(
                &mut self,
                name: &'static str,
                value: &T,
            ) -> Result<(), MapFault> {
                self.put(name.to_owned(), value)
            }

            fn end(self) -> Encoding {
                self.finish()
            }
        })*
    };
}

fields! { SerializeStruct SerializeStructVariant }

// serde's 128-bit methods are the last resort: narrower types and what serde buffers refuse them.
fn visit_unsigned<'de, V: Visitor<'de>>(number: u128, visitor: V) -> Result<V::Value, MapFault> {
    match number.try_into() {
        Ok(number) => visitor.visit_u64(number),
        Err(_) => visitor.visit_u128(number),
    }
}

fn visit_signed<'de, V: Visitor<'de>>(number: i128, visitor: V) -> Result<V::Value, MapFault> {
    match number.try_into() {
        Ok(number) => visitor.visit_i64(number),
        Err(_) => visitor.visit_i128(number),
    }
}

/// Decodes the value at the front of `rest`.
#[derive(Clone, Copy)]
struct Decoder<'de> {
    rest: &'de [u8],
    levels: u8,
}

impl<'de> Decoder<'de> {
    fn take<T: Deserialize<'de>>(&mut self) -> Result<T, MapFault> {
        let (item, rest) = postcard::take_from_bytes(self.rest).map_err(|_| MapFault::Unreadable)?;
        self.rest = rest;
        Ok(item)
    }

    fn nested<R>(&mut self, read: impl FnOnce(&mut Self) -> Result<R, MapFault>) -> Result<R, MapFault> {
        let levels = self.levels;
        self.levels = deeper(levels)?;
        let result = read(self);
        self.levels = levels;
        result
    }

    /// Reads the `len` items of a list or map. Items left over are an error: an array that is too
    /// short for a list does not cut it.
    fn items<R>(
        &mut self,
        len: usize,
        read: impl FnOnce(&mut Items<'_, 'de>) -> Result<R, MapFault>,
    ) -> Result<R, MapFault> {
        self.nested(|decoder| {
            let mut items = Items { decoder, left: len };
            let result = read(&mut items)?;
            if items.left == 0 { Ok(result) } else { Err(MapFault::OtherType) }
        })
    }
}

impl<'de> Deserializer<'de> for &mut Decoder<'de> {
    type Error = MapFault;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, MapFault> {
        match self.take()? {
            Head::Null => visitor.visit_unit(),
            Head::False => visitor.visit_bool(false),
            Head::True => visitor.visit_bool(true),
            Head::Unsigned(number) => visit_unsigned(number, visitor),
            Head::Negative(number) => visit_signed(number, visitor),
            Head::Float(number) => visitor.visit_f64(number),
            Head::Text(text) => visitor.visit_borrowed_str(text),
            Head::Bytes(bytes) => visitor.visit_borrowed_bytes(bytes),
            Head::List(len) => self.items(len, |items| visitor.visit_seq(items)),
            Head::Map(len) => self.items(len, |items| visitor.visit_map(items)),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, MapFault> {
        let mut ahead = *self;
        if let Head::Null = ahead.take()? {
            *self = ahead;
            return visitor.visit_none();
        }
        self.nested(|decoder| visitor.visit_some(decoder))
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, MapFault> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, MapFault> {
        match self.take()? {
            Head::Text(variant) => visitor.visit_enum(BorrowedStrDeserializer::new(variant)),
            Head::Map(1) => self.nested(|decoder| visitor.visit_enum(decoder)),
            _ => Err(MapFault::OtherType),
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf
        unit unit_struct seq tuple tuple_struct map struct identifier ignored_any
    }
}

impl<'de> de::EnumAccess<'de> for &mut Decoder<'de> {
    type Error = MapFault;
    type Variant = Self;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Self), MapFault> {
        let name = seed.deserialize(BorrowedStrDeserializer::new(self.take()?))?;
        Ok((name, self))
    }
}

impl<'de> de::VariantAccess<'de> for &mut Decoder<'de> {
    type Error = MapFault;

    fn unit_variant(self) -> Result<(), MapFault> {
        Deserialize::deserialize(self)
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, MapFault> {
        seed.deserialize(self)
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, MapFault> {
        self.deserialize_any(visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, MapFault> {
        self.deserialize_any(visitor)
    }
}

struct Items<'a, 'de> {
    decoder: &'a mut Decoder<'de>,
    left: usize,
}

impl Items<'_, '_> {
    fn next(&mut self) -> bool {
        let more = self.left > 0;
        self.left = self.left.saturating_sub(1);
        more
    }
}

impl<'de> de::SeqAccess<'de> for &mut Items<'_, 'de> {
    type Error = MapFault;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, MapFault> {
        if !self.next() {
            return Ok(None);
        }
        seed.deserialize(&mut *self.decoder).map(Some)
    }
}

impl<'de> de::MapAccess<'de> for &mut Items<'_, 'de> {
    type Error = MapFault;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, MapFault> {
        if !self.next() {
            return Ok(None);
        }
        let text = self.decoder.take()?;
        seed.deserialize(Key { text, levels: self.decoder.levels }).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, MapFault> {
        seed.deserialize(&mut *self.decoder)
    }
}

/// Decodes a map's key from its text.
struct Key<'de> {
    text: &'de str,
    levels: u8,
}

/// Deserializer methods for the integers, which differ in their name alone.
macro_rules! integer_keys {
    ($($method:ident)*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, MapFault> {
            match self.text.parse() {
                Ok(number) => visit_unsigned(number, visitor),
                Err(_) => visit_signed(self.text.parse().map_err(|_| MapFault::OtherType)?, visitor),
            }
        })*
    };
}

impl<'de> Deserializer<'de> for Key<'de> {
    type Error = MapFault;

    integer_keys! {
        deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_i128
        deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64 deserialize_u128
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, MapFault> {
        visitor.visit_borrowed_str(self.text)
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, MapFault> {
        visitor.visit_bool(self.text.parse().map_err(|_| MapFault::OtherType)?)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, MapFault> {
        let levels = deeper(self.levels)?;
        visitor.visit_some(Self { levels, ..self })
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, MapFault> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, MapFault> {
        visitor.visit_enum(BorrowedStrDeserializer::new(self.text))
    }

    forward_to_deserialize_any! {
        f32 f64 char str string bytes byte_buf
        unit unit_struct seq tuple tuple_struct map struct identifier ignored_any
    }
}

#[cfg(test)]
#[allow(clippy::indexing_slicing, clippy::unwrap_used)]
mod tests {
    use super::*;
    use serde::de::{DeserializeOwned, IgnoredAny};
    use serde_json::json;
    use std::collections::HashMap;
    use std::net::IpAddr;

    #[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
    enum Plain {
        Unit,
        New(Box<Plain>),
        Tuple(u8, String),
        Struct { a: Option<u8> },
    }
    use Plain::{New, Struct, Tuple, Unit};

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(tag = "kind")]
    enum Tagged {
        Ip { ip: IpAddr },
        Other(BTreeMap<String, i64>),
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(untagged)]
    enum Untagged {
        Number(i32),
        Ip(IpAddr),
        List(Vec<Untagged>),
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Flat {
        #[serde(skip_serializing_if = "Option::is_none")]
        absent: Option<u8>,
        #[serde(flatten)]
        tagged: Tagged,
    }

    /// Contains itself through `Some` alone, so its value has no bytes that end it.
    #[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
    struct Endless(Option<Box<Endless>>);

    const IP: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn sealed(value: Vec<u8>) -> SessionMap {
        let entries = BTreeMap::from([("k".to_owned(), Encoded(value))]);
        let bytes = postcard::to_allocvec(&SessionMap { entries }).unwrap();
        postcard::from_bytes(&bytes).unwrap()
    }

    /// A map that holds `value`, once through a cookie's bytes.
    fn map_of(value: &(impl Serialize + ?Sized)) -> SessionMap {
        let mut map = SessionMap::new();
        map.insert("k", value).unwrap();
        let opened = sealed(map.entries["k"].0.clone());
        assert_eq!(opened, map);
        opened
    }

    fn read<V: DeserializeOwned>(value: &(impl Serialize + ?Sized)) -> Result<V, MapError> {
        map_of(value).get("k").map(Option::unwrap)
    }

    fn fault<V: DeserializeOwned>(map: &SessionMap) -> MapFault {
        map.get::<V>("k").map(drop).unwrap_err().fault
    }

    fn same<V: Serialize + DeserializeOwned + PartialEq + fmt::Debug>(value: V) {
        assert_eq!(read(&value), Ok(value));
    }

    #[test]
    fn values_come_back() {
        same((u8::MAX, u64::MAX, u128::MAX, -1, i64::MIN, i128::MIN));
        same((true, 'ß', "x".to_owned(), 0.1_f32, 0.1, f64::INFINITY));
        assert!(read::<f64>(&f64::NAN).unwrap().is_nan());
        same(((), Some(3), None::<u8>, [1; 3], vec![Some(1), None]));
        same([Unit, New(Unit.into()), Tuple(1, String::new())]);
        same(vec![Some([1]); 200]);
        same([Struct { a: None }, Struct { a: Some(1) }]);
        same(Untagged::List(vec![Untagged::Number(-5), Untagged::Ip(IP)]));
        same(Tagged::Other([("a".to_owned(), -1)].into()));
        let (absent, tagged) = (None, Tagged::Ip { ip: IP });
        same(Flat { absent, tagged });
        same(json!({"a": [1, -1, 1.5, null, true], "b": {"": "x"}}));
        same(map_of("bytes within bytes"));
        assert_eq!(map_of("borrowed").get::<&str>("k"), Ok(Some("borrowed")));
    }

    #[test]
    fn map_keys_are_text() {
        same(BTreeMap::from([(u64::MAX, 'a'), (1, 'b')]));
        same(BTreeMap::from([(i128::MIN, 1), (2, 3)]));
        same(BTreeMap::from([(true, 1)]));
        same(BTreeMap::from([('x', 1)]));
        same(BTreeMap::from([(IP, 1)]));
        same(BTreeMap::from([(Some(Unit), 1)]));
        let large = map_of(&json!({"256": 1}));
        assert_eq!(fault::<BTreeMap<u8, u8>>(&large), MapFault::OtherType);
    }

    #[test]
    fn a_refused_value_changes_nothing() {
        /// Fails, or writes one key twice.
        struct Bad(bool);
        impl Serialize for Bad {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                if self.0 {
                    return Err(ser::Error::custom("hunter2"));
                }
                serializer.collect_map([("1", 0), ("1", 0)])
            }
        }
        let tuple = BTreeMap::from([((1, 2), 0)]);
        let none = BTreeMap::from([(None::<u8>, 0)]);
        let content = BTreeMap::from([(New(Unit.into()), 0)]);
        let mut map = map_of("kept");
        for (result, fault) in [
            (map.insert("k", &tuple), MapFault::MapKey),
            (map.insert("k", &none), MapFault::MapKey),
            (map.insert("k", &content), MapFault::MapKey),
            (map.insert("k", &[Bad(false)]), MapFault::SameKey),
            (map.insert("k", &Some(Bad(true))), MapFault::Refused),
        ] {
            assert_eq!(result.unwrap_err().fault, fault);
        }
        assert_eq!(map, map_of("kept"));
    }

    #[test]
    fn integers_are_read_in_any_width_that_holds_them() {
        assert_eq!((read(&1_u8), read(&1_u8)), (Ok(1_i64), Ok(1.0)));
        assert_eq!(read(&255_i128), Ok(255_u8));
        assert_eq!(map_of(&7_i8), map_of(&7_u128));
        assert_eq!(fault::<u8>(&map_of(&256)), MapFault::OtherType);
        assert_eq!(fault::<u64>(&map_of(&-1)), MapFault::OtherType);
        assert_eq!(fault::<u64>(&map_of(&1.0)), MapFault::OtherType);
    }

    #[test]
    fn another_type_is_an_error_and_no_text_shows_a_value() {
        let map = map_of("hunter2");
        assert_eq!(map.get::<u64>("absent"), Ok(None));
        let errors = [
            map.get::<u64>("k").unwrap_err(),
            map.get::<Plain>("k").unwrap_err(),
            map.get::<IpAddr>("k").unwrap_err(),
            map.get::<Untagged>("k").unwrap_err(),
            read::<((String,), u8)>(&(("hunter2", 1), 2)).unwrap_err(),
            read::<Flat>(&BTreeMap::from([("kind", "hunter2")])).unwrap_err(),
        ];
        assert_eq!(errors[4].fault, MapFault::OtherType);
        let texts = errors.each_ref().map(MapError::to_string);
        assert!(texts[0].starts_with("session value \"k\" as `u64`: "));
        assert!(!format!("{map:?} {errors:?} {texts:?}").contains("hunter2"));
    }

    #[test]
    fn structs_may_gain_fields() {
        #[derive(Debug, PartialEq, Deserialize)]
        struct Later {
            #[serde(default)]
            added: u8,
            b: u8,
        }
        let later = Later { added: 0, b: 1 };
        assert_eq!(read(&json!({"b": 1, "gone": [2]})), Ok(later));
        assert_eq!(fault::<Later>(&map_of(&json!({}))), MapFault::MissingField("b"));
    }

    #[test]
    fn depth_is_bounded_both_ways() {
        let check = || {
            let lists = |n| (0..n).fold(json!(0), |inner, _| json!([inner]));
            let enums = |n| (0..n).fold(Unit, |inner, _| New(inner.into()));
            same((lists(127), enums(127)));
            let somes = |n| (0..n).fold(Endless(None), |inner, _| Endless(Some(inner.into())));
            let mut map = SessionMap::new();
            for result in
                [map.insert("k", &lists(129)), map.insert("k", &enums(129)), map.insert("k", &somes(129))]
            {
                assert_eq!(result.unwrap_err().fault, MapFault::TooDeep);
            }
            let lists = sealed([[8, 1]; 1500].concat());
            assert_eq!(fault::<IgnoredAny>(&lists), MapFault::TooDeep);
            let enums = sealed([*b"\x09\x01\x03New"; 500].concat());
            assert_eq!(fault::<Plain>(&enums), MapFault::TooDeep);
            assert_eq!(fault::<Endless>(&map_of(&5)), MapFault::TooDeep);
            let keys = map_of(&json!({"x": 1}));
            assert_eq!(fault::<BTreeMap<Endless, u8>>(&keys), MapFault::TooDeep);
        };
        let thread = std::thread::Builder::new().stack_size(512 * 1024);
        thread.spawn(check).unwrap().join().unwrap();
    }

    #[test]
    fn the_encoding_is_pinned_and_canonical() {
        let scalars = map_of(&((), false, true, 1, -1, 1.0, "text"));
        let expected = b"\x08\x07\x00\x01\x02\x03\x01\x04\x01\x05\0\0\0\0\0\0\xf0\x3f\x06\x04text";
        assert_eq!(scalars.entries["k"].0, expected);
        let nested = map_of(&json!({"b": {"9": [], "10": 1}, "a": null}));
        let expected = b"\x09\x02\x01a\x00\x01b\x09\x02\x0210\x03\x01\x019\x08\x00";
        assert_eq!(nested.entries["k"].0, expected);
        let bytes = postcard::to_allocvec(&map_of(&SessionMap::new())).unwrap();
        assert_eq!(bytes, b"\x01\x01k\x0c\x09\x01\x07entries\x09\x00");
        let hashed = || (0..50).map(|n| (n, n)).collect::<HashMap<_, _>>();
        assert_eq!(map_of(&hashed()), map_of(&hashed()));
    }

    #[test]
    fn foreign_bytes_are_an_error_or_a_value() {
        let map = map_of(&json!([{"a": -1, "b": null}, [1.5, true], "x"]));
        let good = &map.entries["k"].0;
        for at in 0..good.len() {
            for bit in 0..8 {
                let mut bytes = good.clone();
                bytes[at] ^= 1 << bit;
                let _ = sealed(bytes).get::<serde_json::Value>("k");
            }
            assert_eq!(fault::<IgnoredAny>(&sealed(good[..at].to_vec())), MapFault::Unreadable);
        }
        assert_eq!(fault::<u8>(&sealed(vec![3, 1, 0])), MapFault::Unreadable);
    }

    #[test]
    fn names_of_javascript_are_ordinary_keys() {
        let mut map = SessionMap::new();
        let names = ["", "__proto__", "constructor", "isNew", "toString"];
        for name in names {
            map.insert(name, name).unwrap();
        }
        assert!(map.keys().eq(names) && map.len() == 5 && !map.is_empty());
        assert_eq!(map.get("__proto__"), Ok(Some("__proto__")));
        assert!(map.remove("toString") && !map.remove("toString") && !map.contains_key("toString"));
        map.clear();
        assert_eq!(map, SessionMap::default());
    }
}
