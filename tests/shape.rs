//! The shape of a type: what makes a cookie of another form refused instead of misread, what does
//! not, and which types cannot be stored at all.

use cookie_session::{
    ConfigError, Incoming, KeyRing, RejectedKind, SessionBuilder, SessionLayer, SessionMap, SetCookie, Shape,
};
use http::{HeaderMap, header::COOKIE};
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{self, DeserializeOwned, Visitor},
};
use sha2::{Digest as _, Sha256};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque},
    fmt,
    num::{NonZeroI32, NonZeroU64},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

const KEY: &str = "7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed";

/// What may be a session's type.
trait Stored: Default + Serialize + DeserializeOwned + Send + 'static {}
impl<T: Default + Serialize + DeserializeOwned + Send + 'static> Stored for T {}

fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

fn builder<T>() -> SessionBuilder<T> {
    SessionLayer::builder(KeyRing::new(KEY.parse().unwrap(), []).unwrap())
}

fn shape<T: Stored>() -> Shape {
    builder::<T>().build().unwrap().shape()
}

/// What becomes of a cookie that was written as an `A` where a `B` is read. Through layers of another
/// type that migrate, which compile much faster than layers of `A` and `B` and apply the same rule.
fn migrating<A: Stored, B: Stored>() -> Incoming {
    let writer =
        builder::<u8>().schema(2).migrate_from(1, |_: A| 0).write_as(1, |_| A::default()).build().unwrap();
    let cookie = writer.codec().seal(&0, None, None, now()).unwrap();
    let reader = builder::<u8>().schema(2).migrate_from(1, |_: B| 0).build().unwrap();
    incoming(&reader, &cookie)
}

/// The same with a layer of `A` and one of `B`.
fn crossing<A: Stored, B: Stored>() -> Incoming {
    let cookie = builder::<A>().build().unwrap().codec().seal(&A::default(), None, None, now()).unwrap();
    incoming(&builder::<B>().build().unwrap(), &cookie)
}

fn incoming<T: Stored>(layer: &SessionLayer<T>, cookie: &SetCookie) -> Incoming {
    layer.codec().open(&HeaderMap::from_iter([(COOKIE, cookie.request_header())]), now()).incoming()
}

/// Checks that what was written as an `A` is refused where a `B` is read, and the other way round,
/// though the bytes of one decode as the other without a word.
fn refused<A: Stored, B: Stored>(what: &str) {
    let a = postcard::to_allocvec(&A::default()).unwrap();
    let b = postcard::to_allocvec(&B::default()).unwrap();
    assert!(
        postcard::from_bytes::<B>(&a).is_ok() || postcard::from_bytes::<A>(&b).is_ok(),
        "{what}: no trap"
    );
    let refused = Incoming::Rejected(RejectedKind::Payload);
    assert_eq!((migrating::<A, B>(), migrating::<B, A>()), (refused, refused), "{what}");
}

/// Checks that an `A` and a `B` are read from each other's cookies.
fn same<A: Stored, B: Stored>(what: &str) {
    let accepted = Incoming::Accepted;
    assert_eq!((migrating::<A, B>(), migrating::<B, A>()), (accepted, accepted), "{what}");
}

/// Two forms of the same types, in modules named `one` and `other`.
macro_rules! forms {
    ($module:ident { $($one:tt)* } { $($other:tt)* }) => {
        mod $module {
            pub mod one {
                #[allow(unused_imports)]
                use crate::*;
                $($one)*
            }
            pub mod other {
                #[allow(unused_imports)]
                use crate::*;
                $($other)*
            }
        }
    };
}

/// Like `uuid::Uuid` in a format that is not for people: sixteen bytes, or an error.
#[derive(Clone, Copy, Default, Debug, PartialEq)]
struct Id([u8; 16]);

impl Serialize for Id {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Id, D::Error> {
        struct Bytes;
        impl Visitor<'_> for Bytes {
            type Value = Id;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("sixteen bytes")
            }
            fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Id, E> {
                bytes.try_into().map(Id).map_err(|_| E::invalid_length(bytes.len(), &self))
            }
        }
        deserializer.deserialize_bytes(Bytes)
    }
}

/// A number that has no zero, and so no derived default.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq)]
struct Count(NonZeroU64);

impl Default for Count {
    fn default() -> Count {
        Count(NonZeroU64::MIN)
    }
}

/// A text that is checked when it is read.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(try_from = "String")]
struct Url(String);

impl TryFrom<String> for Url {
    type Error = &'static str;
    fn try_from(text: String) -> Result<Url, &'static str> {
        if text.starts_with("http://") { Ok(Url(text)) } else { Err("no URL") }
    }
}

impl Default for Url {
    fn default() -> Url {
        Url("http://example.com/".to_owned())
    }
}

/// A number that is refused unless it is this one, which no list of candidates has.
#[derive(Serialize, Clone, Copy, Debug, PartialEq)]
struct Magic(u64);

impl<'de> Deserialize<'de> for Magic {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Magic, D::Error> {
        match u64::deserialize(deserializer)? {
            0x5eed_5eed_5eed => Ok(Magic(0x5eed_5eed_5eed)),
            _ => Err(de::Error::custom("not magic")),
        }
    }
}

impl Default for Magic {
    fn default() -> Magic {
        Magic(0x5eed_5eed_5eed)
    }
}

mod swapped {
    use super::*;

    forms!(plain
        { #[derive(Default, Serialize, Deserialize)] pub struct Shop { user: u64, admin: u64 } }
        { #[derive(Default, Serialize, Deserialize)] pub struct Shop { admin: u64, user: u64 } }
    );

    #[test]
    fn fields_that_changed_places_are_refused() {
        use plain::{one, other};
        refused::<one::Shop, other::Shop>("plain");
        let refused = Incoming::Rejected(RejectedKind::Payload);
        assert_eq!(crossing::<one::Shop, other::Shop>(), refused);
        assert_eq!(crossing::<one::Shop, one::Shop>(), Incoming::Accepted);
        assert_ne!(shape::<one::Shop>(), shape::<other::Shop>());
    }

    forms!(behind
        {
            #[derive(Default, Serialize, Deserialize)] pub struct AnId { id: Id, user: u64, admin: u64 }
            #[derive(Default, Serialize, Deserialize)] pub struct ACount { count: Count, user: u64, admin: u64 }
            #[derive(Default, Serialize, Deserialize)] pub struct AUrl { url: Url, user: u64, admin: u64 }
            #[derive(Default, Serialize, Deserialize)] pub struct Many { id: Id, count: Count, url: Url, user: u64, admin: u64 }
            #[derive(Default, Serialize, Deserialize)] pub struct AMagic { magic: Magic, user: u64, admin: u64 }
            #[derive(Default, Serialize, Deserialize)] pub struct Maybe { id: Option<Id>, all: Vec<Count>, user: u64, admin: u64 }
            #[derive(Default, Serialize, Deserialize)] pub struct Keyed { ids: BTreeMap<u8, Id>, user: u64, admin: u64 }
        }
        {
            #[derive(Default, Serialize, Deserialize)] pub struct AnId { id: Id, admin: u64, user: u64 }
            #[derive(Default, Serialize, Deserialize)] pub struct ACount { count: Count, admin: u64, user: u64 }
            #[derive(Default, Serialize, Deserialize)] pub struct AUrl { url: Url, admin: u64, user: u64 }
            #[derive(Default, Serialize, Deserialize)] pub struct Many { id: Id, count: Count, url: Url, admin: u64, user: u64 }
            #[derive(Default, Serialize, Deserialize)] pub struct AMagic { magic: Magic, admin: u64, user: u64 }
            #[derive(Default, Serialize, Deserialize)] pub struct Maybe { id: Option<Id>, all: Vec<Count>, admin: u64, user: u64 }
            #[derive(Default, Serialize, Deserialize)] pub struct Keyed { ids: BTreeMap<u8, Id>, admin: u64, user: u64 }
        }
    );

    #[test]
    fn behind_values_that_are_checked_when_read_they_are_refused_as_well() {
        use behind::{one, other};
        refused::<one::AnId, other::AnId>("an id of sixteen bytes");
        refused::<one::ACount, other::ACount>("a number that is not zero");
        refused::<one::AUrl, other::AUrl>("a URL");
        refused::<one::Many, other::Many>("all of them");
        refused::<one::Maybe, other::Maybe>("some of them");
        refused::<one::Keyed, other::Keyed>("in a map");
        refused::<one::AMagic, other::AMagic>("what nothing passes for");
    }

    forms!(within
        {
            #[derive(Default, Serialize, Deserialize)] pub struct Inner { user: u64, admin: u64 }
            #[derive(Default, Serialize, Deserialize)] pub struct Newtype(Inner);
            #[derive(Default, Serialize, Deserialize)] pub struct Field { inner: Inner }
            #[derive(Default, Serialize, Deserialize)] pub struct Deep { a: (u8, [Field; 2]), b: Box<Newtype> }
            #[derive(Default, Serialize, Deserialize)] pub struct Held<T> { held: T }
            #[derive(Serialize, Deserialize)] pub enum Variant { Guest, Known { user: u64, admin: u64 } }
            impl Default for Variant { fn default() -> Self { Variant::Known { user: 1, admin: 0 } } }
            #[derive(Serialize, Deserialize)] pub enum Content { Guest, Also(u8, Id), Known(Id, Inner) }
            impl Default for Content { fn default() -> Self { Content::Known(Id::default(), Inner::default()) } }
            #[derive(Default, Serialize, Deserialize)] pub enum Unused { #[default] Guest, Also(u8), Known { user: u64, admin: u64 } }
        }
        {
            #[derive(Default, Serialize, Deserialize)] pub struct Inner { admin: u64, user: u64 }
            #[derive(Default, Serialize, Deserialize)] pub struct Newtype(Inner);
            #[derive(Default, Serialize, Deserialize)] pub struct Field { inner: Inner }
            #[derive(Default, Serialize, Deserialize)] pub struct Deep { a: (u8, [Field; 2]), b: Box<Newtype> }
            #[derive(Default, Serialize, Deserialize)] pub struct Held<T> { held: T }
            #[derive(Serialize, Deserialize)] pub enum Variant { Guest, Known { admin: u64, user: u64 } }
            impl Default for Variant { fn default() -> Self { Variant::Known { user: 1, admin: 0 } } }
            #[derive(Serialize, Deserialize)] pub enum Content { Guest, Also(u8, Id), Known(Id, Inner) }
            impl Default for Content { fn default() -> Self { Content::Known(Id::default(), Inner::default()) } }
            #[derive(Default, Serialize, Deserialize)] pub enum Unused { #[default] Guest, Also(u8), Known { admin: u64, user: u64 } }
        }
    );

    #[test]
    fn inside_of_other_types_they_are_refused_as_well() {
        use within::{one, other};
        refused::<one::Newtype, other::Newtype>("a newtype");
        refused::<one::Field, other::Field>("a field");
        refused::<one::Deep, other::Deep>("tuples, arrays and boxes");
        refused::<one::Held<one::Inner>, other::Held<other::Inner>>("a type parameter");
        refused::<Option<one::Inner>, Option<other::Inner>>("an option, though it is empty");
        refused::<Vec<one::Inner>, Vec<other::Inner>>("a list, though it is empty");
        refused::<HashMap<String, one::Inner>, HashMap<String, other::Inner>>("a map, though it is empty");
        refused::<Vec<Option<BTreeMap<u8, (u8, one::Inner)>>>, Vec<Option<BTreeMap<u8, (u8, other::Inner)>>>>(
            "all of these",
        );
    }

    #[test]
    fn inside_of_enum_variants_they_are_refused_as_well() {
        use within::{one, other};
        refused::<one::Variant, other::Variant>("a variant with fields");
        refused::<one::Content, other::Content>("a struct in a variant, behind an id");
        refused::<one::Unused, other::Unused>("a variant that is not in use");
        refused::<Vec<one::Variant>, Vec<other::Variant>>("in a list that is empty");
        refused::<(one::Unused, u8), (other::Unused, u8)>("in a tuple");
    }

    forms!(recursive
        {
            #[derive(Default, Serialize, Deserialize)] pub struct Tree { children: Vec<Tree>, user: u64, admin: u64 }
            #[derive(Default, Serialize, Deserialize)] pub struct List { next: Option<Box<List>>, user: u64, admin: u64 }
            #[derive(Default, Serialize, Deserialize)] pub struct Named { inner: HashMap<String, Named>, user: u64, admin: u64 }
            #[derive(Default, Serialize, Deserialize)] pub struct Ping { pong: Option<Box<Pong>>, user: u64, admin: u64 }
            #[derive(Default, Serialize, Deserialize)] pub struct Pong { ping: Vec<Ping>, id: Id }
            #[derive(Serialize, Deserialize)] pub enum Expr { Add(Box<Expr>, Box<Expr>), Lit { user: u64, admin: u64 } }
            impl Default for Expr { fn default() -> Self { Expr::Lit { user: 0, admin: 0 } } }
            #[derive(Default, Serialize, Deserialize)] pub struct After { expr: Expr, user: u64, admin: u64 }
        }
        {
            #[derive(Default, Serialize, Deserialize)] pub struct Tree { children: Vec<Tree>, admin: u64, user: u64 }
            #[derive(Default, Serialize, Deserialize)] pub struct List { next: Option<Box<List>>, admin: u64, user: u64 }
            #[derive(Default, Serialize, Deserialize)] pub struct Named { inner: HashMap<String, Named>, admin: u64, user: u64 }
            #[derive(Default, Serialize, Deserialize)] pub struct Ping { pong: Option<Box<Pong>>, admin: u64, user: u64 }
            #[derive(Default, Serialize, Deserialize)] pub struct Pong { ping: Vec<Ping>, id: Id }
            #[derive(Serialize, Deserialize)] pub enum Expr { Add(Box<Expr>, Box<Expr>), Lit { admin: u64, user: u64 } }
            impl Default for Expr { fn default() -> Self { Expr::Lit { user: 0, admin: 0 } } }
            #[derive(Default, Serialize, Deserialize)] pub struct After { expr: Expr, admin: u64, user: u64 }
        }
    );

    #[test]
    fn in_recursive_types_they_are_refused_as_well() {
        use recursive::{one, other};
        refused::<one::Tree, other::Tree>("a tree");
        refused::<one::List, other::List>("a list by boxes");
        refused::<one::Named, other::Named>("a map of itself");
        refused::<one::Ping, other::Ping>("two that hold each other");
        refused::<one::Pong, other::Pong>("two that hold each other, from the other end");
        refused::<one::Expr, other::Expr>("an enum of itself");
        refused::<one::After, other::After>("a struct with one and the fields behind it");
    }
}

mod changes {
    use super::*;

    forms!(shop
        {
            #[derive(Default, Serialize, Deserialize)] pub struct Renamed { user: u64, admin: bool }
            #[derive(Default, Serialize, Deserialize)] pub struct More { user: u64 }
            #[derive(Default, Serialize, Deserialize)] pub struct Signed { user: u64 }
            #[derive(Default, Serialize, Deserialize)] pub struct Wider { user: u32 }
            #[derive(Default, Serialize, Deserialize)] pub struct Text { user: String }
            #[derive(Default, Serialize, Deserialize)] pub struct Maybe { user: Option<()> }
            #[derive(Default, Serialize, Deserialize)] pub struct Float { user: f32 }
            #[derive(Default, Serialize, Deserialize)] pub struct Byte { user: u8 }
            #[derive(Default, Serialize, Deserialize)] pub struct Tuple(u8, u8);
            #[derive(Default, Serialize, Deserialize)] pub struct AfterId { id: Id, user: u32 }
            #[derive(Default, Serialize, Deserialize)] pub struct AfterUrl { url: Url, user: u32 }
        }
        {
            #[derive(Default, Serialize, Deserialize)] pub struct Renamed { user: u64, is_admin: bool }
            #[derive(Default, Serialize, Deserialize)] pub struct More { user: u64, cart: Vec<u8> }
            #[derive(Default, Serialize, Deserialize)] pub struct Signed { user: i64 }
            #[derive(Default, Serialize, Deserialize)] pub struct Wider { user: u64 }
            #[derive(Default, Serialize, Deserialize)] pub struct Text { user: Vec<u8> }
            #[derive(Default, Serialize, Deserialize)] pub struct Maybe { user: bool }
            #[derive(Default, Serialize, Deserialize)] pub struct Float { user: [u8; 4] }
            #[derive(Default, Serialize, Deserialize)] pub struct Byte { user: bool }
            #[derive(Default, Serialize, Deserialize)] pub struct Tuple(u8, (u8, ()));
            #[derive(Default, Serialize, Deserialize)] pub struct AfterId { id: Id, user: u64 }
            #[derive(Default, Serialize, Deserialize)] pub struct AfterUrl { url: Url, user: u64 }
        }
    );

    #[test]
    fn every_change_of_a_field_is_refused() {
        use shop::{one, other};
        refused::<one::Renamed, other::Renamed>("another name");
        refused::<one::More, other::More>("one more");
        refused::<one::Signed, other::Signed>("signed");
        refused::<one::Wider, other::Wider>("wider");
        refused::<one::Text, other::Text>("bytes for text");
        refused::<one::Maybe, other::Maybe>("a flag for an option");
        refused::<one::Float, other::Float>("bytes for a float");
        refused::<one::Byte, other::Byte>("a flag for a byte");
        refused::<one::Tuple, other::Tuple>("a nested tuple");
        refused::<one::AfterId, other::AfterId>("wider, behind an id");
        refused::<one::AfterUrl, other::AfterUrl>("wider, behind a URL");
    }

    forms!(role
        {
            #[derive(Default, Serialize, Deserialize)] pub enum Role { #[default] Guest, User, Admin }
            #[derive(Default, Serialize, Deserialize)] pub enum Holds { #[default] Guest, User(u8) }
            #[derive(Serialize, Deserialize)] pub enum Third { Guest, User(u8), Admin { level: u8 } }
            impl Default for Third { fn default() -> Self { Third::Admin { level: 1 } } }
        }
        {
            #[derive(Default, Serialize, Deserialize)] pub enum Role { #[default] Guest, Admin, User }
            #[derive(Default, Serialize, Deserialize)] pub enum Holds { #[default] Guest, User(bool) }
            #[derive(Serialize, Deserialize)] pub enum Third { Guest, User(u8), Admin { level: bool } }
            impl Default for Third { fn default() -> Self { Third::Admin { level: true } } }
            #[derive(Default, Serialize, Deserialize)] pub enum More { #[default] Guest, User, Admin, Root }
            #[derive(Default, Serialize, Deserialize)] pub enum Renamed { #[default] Guest, User, Boss }
        }
    );

    #[test]
    fn every_change_of_a_variant_is_refused() {
        use role::{one, other};
        refused::<one::Role, other::Role>("another order");
        refused::<one::Role, other::More>("one more");
        refused::<one::Role, other::Renamed>("another name");
        refused::<one::Holds, other::Holds>("another content");
        refused::<one::Third, other::Third>("another type of a field in it");
        refused::<Vec<one::Role>, Vec<other::Role>>("in a list");
    }
}

mod unchanged {
    use super::*;

    #[derive(Default, Serialize, Deserialize)]
    struct Shop {
        id: Id,
        role: Role,
        next: Option<Box<Shop>>,
    }
    #[derive(Default, Serialize, Deserialize)]
    enum Role {
        #[default]
        Guest,
        User(u64),
    }
    #[derive(Default, Serialize, Deserialize)]
    struct ShopV1 {
        id: Wrapped,
        role: RoleV1,
        next: Option<Box<ShopV1>>,
    }
    #[derive(Default, Serialize, Deserialize)]
    enum RoleV1 {
        #[default]
        Guest,
        User(u64),
    }
    #[derive(Default, Serialize, Deserialize)]
    struct Wrapped(Id);
    #[derive(Default, Serialize, Deserialize)]
    #[serde(rename = "Other")]
    struct Whole(Shop);

    #[test]
    fn names_of_types_and_newtypes_count_for_nothing() {
        same::<Shop, ShopV1>("another name for each");
        assert_eq!(crossing::<Shop, ShopV1>(), Incoming::Accepted);
        assert_eq!(shape::<Shop>(), shape::<ShopV1>());
        same::<Shop, Whole>("a newtype around it, with a name of its own");
        same::<Vec<Role>, Vec<RoleV1>>("an enum");
        same::<Id, Wrapped>("a newtype");
    }

    #[test]
    fn collections_of_one_wire_form_can_stand_for_each_other() {
        same::<HashMap<String, u8>, BTreeMap<String, u8>>("maps");
        same::<Vec<u8>, VecDeque<u8>>("lists");
        same::<HashSet<u8>, BTreeSet<u8>>("sets");
        same::<String, Box<str>>("text");
        same::<Option<Box<u64>>, Option<u64>>("boxes");
        same::<[u8; 2], (u8, u8)>("an array and a tuple");
    }

    #[test]
    fn a_type_has_the_same_shape_each_time() {
        for _ in 0..3 {
            assert_eq!(shape::<Shop>(), shape::<Shop>());
            assert_eq!(shape::<SessionMap>(), shape::<SessionMap>());
        }
    }

    #[test]
    fn settings_count_for_nothing() {
        let plain = builder::<Shop>().build().unwrap();
        let other = builder::<Shop>().schema(9).context("other").name("id").build().unwrap();
        assert_eq!(plain.shape(), other.shape());
    }
}

mod pinned {
    use super::*;

    #[derive(Default, Serialize, Deserialize)]
    struct Shop {
        user: Option<u64>,
        cart: Vec<u32>,
    }
    #[derive(Default, Serialize, Deserialize)]
    enum Page {
        #[default]
        Start,
        Item(u32),
        Pair(bool, char),
        Search {
            text: String,
            again: Option<Box<Page>>,
        },
    }

    fn names(names: &[&str]) -> Vec<u8> {
        let count = |n: usize| (n as u32).to_le_bytes();
        let mut bytes = count(names.len()).to_vec();
        for name in names {
            bytes.extend(count(name.len()));
            bytes.extend(name.as_bytes());
        }
        bytes
    }

    /// kind, what belongs to it, and the nodes below.
    fn node(kind: u8, more: &[u8], below: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = vec![kind];
        bytes.extend(more);
        bytes.extend((below.len() as u32).to_le_bytes());
        bytes.extend(below.concat());
        bytes
    }

    fn leaf(kind: u8) -> Vec<u8> {
        node(kind, &[], &[])
    }

    fn hash(root: &[u8]) -> [u8; 4] {
        let digest = Sha256::new().chain_update("cookie-session shape v1").chain_update(root).finalize();
        [digest[0], digest[1], digest[2], digest[3]]
    }

    #[test]
    fn a_structs_shape_is_part_of_the_wire_format() {
        // If this fails, the next release signs everyone out.
        assert_eq!(shape::<Shop>().to_string(), "15966813");
        let (option, list) = (node(0x20, &[], &[leaf(0x0b)]), node(0x21, &[], &[leaf(0x0a)]));
        let root = node(0x24, &names(&["user", "cart"]), &[option, list]);
        assert_eq!(shape::<Shop>().to_bytes(), hash(&root));
    }

    #[test]
    fn an_enums_shape_is_part_of_the_wire_format() {
        // From the enum inside the option up to the outer one: option, variant, enum.
        let again = node(0x20, &[], &[node(0x1f, &3_u32.to_le_bytes(), &[])]);
        let variants = [
            leaf(0x28),
            node(0x29, &[], &[leaf(0x0a)]),
            node(0x2a, &2_u32.to_le_bytes(), &[leaf(0x02), leaf(0x0f)]),
            node(0x2b, &names(&["text", "again"]), &[leaf(0x10), again]),
        ];
        let root = node(0x25, &names(&["Start", "Item", "Pair", "Search"]), &variants);
        assert_eq!(shape::<Page>().to_bytes(), hash(&root));
    }

    #[test]
    fn leaves_are_as_the_format_says() {
        let cases: [(Shape, u8); 17] = [
            (shape::<()>(), 0x01),
            (shape::<bool>(), 0x02),
            (shape::<i8>(), 0x03),
            (shape::<i16>(), 0x04),
            (shape::<i32>(), 0x05),
            (shape::<i64>(), 0x06),
            (shape::<i128>(), 0x07),
            (shape::<u8>(), 0x08),
            (shape::<u16>(), 0x09),
            (shape::<u32>(), 0x0a),
            (shape::<u64>(), 0x0b),
            (shape::<u128>(), 0x0c),
            (shape::<f32>(), 0x0d),
            (shape::<f64>(), 0x0e),
            (shape::<char>(), 0x0f),
            (shape::<String>(), 0x10),
            (shape::<Id>(), 0x11),
        ];
        for (shape, kind) in cases {
            assert_eq!(shape.to_bytes(), hash(&leaf(kind)), "{kind:#x}");
        }
    }

    #[test]
    fn a_shape_is_written_as_eight_hexadecimal_digits() {
        let shape = shape::<Shop>();
        assert_eq!(shape.to_string(), format!("{:08x}", u32::from_be_bytes(shape.to_bytes())));
        assert_eq!(format!("{shape:?}"), shape.to_string());
        assert_eq!(HashSet::from([shape, shape]).len(), 1);
    }
}

mod not_storable {
    use super::*;

    #[derive(Default, Serialize, Deserialize, Clone)]
    #[serde(untagged)]
    enum Untagged {
        #[default]
        Nothing,
        Number(u64),
    }
    #[derive(Default, Serialize, Deserialize, Clone)]
    #[serde(tag = "type")]
    enum Tagged {
        #[default]
        Nothing,
        Item {
            number: u64,
        },
    }
    #[derive(Default, Serialize, Deserialize, Clone)]
    struct Inner {
        a: u8,
    }
    #[derive(Default, Serialize, Deserialize, Clone)]
    struct Flattened {
        #[serde(flatten)]
        inner: Inner,
        b: u8,
    }
    #[derive(Default, Serialize, Deserialize, Clone)]
    struct Holds<T> {
        before: u8,
        held: T,
    }
    #[derive(Default, Serialize, Deserialize, Clone)]
    enum Late<T> {
        #[default]
        First,
        Second(u8),
        Third {
            id: Id,
            held: T,
        },
    }
    #[derive(Default, Serialize, Deserialize, Clone)]
    struct Tree<T> {
        children: Vec<Tree<T>>,
        held: Option<T>,
    }

    fn refused_as<T: Stored>(name: &str) {
        match builder::<u8>().schema(2).migrate_from(1, |_: T| 0).build() {
            Err(error @ ConfigError::TypeNotStorable { type_name }) => {
                assert!(type_name.contains(name), "{name}: {type_name}");
                let message = error.to_string();
                assert!(message.contains(type_name) && message.contains("SessionMap"), "{message}");
            }
            Err(other) => panic!("{name}: {other}"),
            Ok(_) => panic!("{name} is accepted"),
        }
    }

    #[test]
    fn a_type_that_looks_at_its_data_to_learn_what_it_is_is_named() {
        refused_as::<serde_json::Value>("Value");
        refused_as::<Untagged>("Untagged");
        refused_as::<Option<Tagged>>("Tagged");
        refused_as::<Flattened>("Flattened");
        refused_as::<serde_json::Map<String, serde_json::Value>>("Value");
        refused_as::<toml::Table>("Value");
    }

    #[test]
    fn it_is_found_wherever_it_stands() {
        refused_as::<Holds<Untagged>>("Untagged");
        refused_as::<Option<Box<Untagged>>>("Untagged");
        refused_as::<Vec<Option<Tagged>>>("Tagged");
        refused_as::<HashMap<String, serde_json::Value>>("Value");
        refused_as::<BTreeMap<u8, (u8, Flattened)>>("Flattened");
        refused_as::<Late<Untagged>>("Untagged");
        refused_as::<Vec<Late<Option<serde_json::Value>>>>("Value");
        refused_as::<Tree<Tagged>>("Tagged");
        refused_as::<Holds<(Id, Url, Count, Untagged)>>("Untagged");
        refused_as::<(Tree<u8>, Untagged)>("Untagged");
    }

    #[test]
    fn it_is_found_in_the_type_itself_and_in_that_of_write_as_too() {
        let of = |error: ConfigError| match error {
            ConfigError::TypeNotStorable { type_name } => type_name,
            other => panic!("{other}"),
        };
        assert!(of(builder::<Untagged>().build().unwrap_err()).contains("Untagged"));
        assert!(of(builder::<Holds<Flattened>>().build().unwrap_err()).contains("Flattened"));
        let writes = builder::<u8>()
            .schema(2)
            .migrate_from(1, |_: u8| 7)
            .write_as(1, |_| Untagged::Nothing)
            .build()
            .unwrap_err();
        let errors = match writes {
            ConfigError::Several(errors) => errors,
            one => vec![one],
        };
        let named = |error: &ConfigError| matches!(error, ConfigError::TypeNotStorable { type_name } if type_name.contains("Untagged"));
        assert!(errors.iter().any(named), "{errors:?}");
    }

    #[test]
    fn the_map_that_is_offered_instead_can_be_stored() {
        assert!(builder::<SessionMap>().build().is_ok());
        assert!(builder::<Holds<SessionMap>>().build().is_ok());
    }

    #[test]
    fn enums_with_tags_of_their_own_work() {
        #[derive(Default, Serialize, Deserialize, Clone, PartialEq, Debug)]
        #[serde(tag = "type", content = "content")]
        enum Adjacent {
            #[default]
            Nothing,
            Number(u64),
            Item {
                a: u8,
            },
        }
        // Either is right: stored and read back as it was, or refused when it is built.
        for value in [Adjacent::Nothing, Adjacent::Number(300), Adjacent::Item { a: 1 }] {
            let Ok(layer) = builder::<Adjacent>().build() else { continue };
            let cookie = layer.codec().seal(&value, None, None, now()).unwrap();
            let opened =
                layer.codec().open(&HeaderMap::from_iter([(COOKIE, cookie.request_header())]), now());
            assert_eq!(opened.value(), Some(&value));
        }
    }
}

mod storable {
    use super::*;
    use std::{
        borrow::Cow,
        cmp::Reverse,
        collections::{BinaryHeap, LinkedList},
        ffi::CString,
        marker::PhantomData,
        net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
        num::{NonZeroI128, NonZeroU8, NonZeroUsize, Saturating, Wrapping},
        ops::{Bound, Range, RangeInclusive},
        path::PathBuf,
    };

    /// Stores a value and reads it again. Through a layer of another type that writes and migrates,
    /// for the sake of the compiler.
    fn comes_back<T>(value: T)
    where
        T: Serialize + DeserializeOwned + Clone + PartialEq + fmt::Debug + Send + Sync + 'static,
    {
        let (written, expected) = (value.clone(), value.clone());
        let layer = builder::<bool>()
            .schema(2)
            .migrate_from(1, move |value: T| value == expected)
            .write_as(1, move |_| written.clone())
            .build()
            .unwrap_or_else(|error| panic!("{value:?}: {error}"));
        let cookie =
            layer.codec().seal(&false, None, None, now()).unwrap_or_else(|e| panic!("{value:?}: {e}"));
        let opened = layer.codec().open(&HeaderMap::from_iter([(COOKIE, cookie.request_header())]), now());
        assert_eq!(opened.value(), Some(&true), "{value:?}");
    }

    #[test]
    fn numbers_and_text() {
        comes_back((u8::MAX, u16::MAX, u32::MAX, u64::MAX, u128::MAX, usize::MAX));
        comes_back((i8::MIN, i16::MIN, i32::MIN, i64::MIN, i128::MIN, isize::MIN));
        comes_back((f32::MAX, f64::MIN_POSITIVE, true, 'ß', "text".to_owned()));
        comes_back(vec![NonZeroU64::MIN, NonZeroU64::MAX]);
        comes_back(vec![NonZeroU8::MAX]);
        comes_back(vec![NonZeroI32::MIN, NonZeroI32::MAX]);
        comes_back(vec![NonZeroI128::MIN]);
        comes_back(vec![NonZeroUsize::MAX]);
        comes_back((Some(NonZeroU64::MIN), None::<NonZeroU8>));
        comes_back((Wrapping(7_u8), Reverse(7_u8), Saturating(7_u8)));
        comes_back::<(Box<str>, Cow<'static, str>)>(("a".into(), "b".into()));
        comes_back(CString::from(c"text"));
        comes_back(PathBuf::from("/a/b"));
        comes_back(((), PhantomData::<u8>));
    }

    #[test]
    fn addresses_and_times() {
        let (four, six) = (Ipv4Addr::LOCALHOST, Ipv6Addr::LOCALHOST);
        comes_back(vec![IpAddr::V4(four), IpAddr::V6(six)]);
        comes_back(vec![SocketAddr::from((four, 80)), SocketAddr::from((six, 443))]);
        comes_back(vec![four]);
        comes_back(vec![six]);
        comes_back(Some(IpAddr::V4(four)));
        comes_back(Duration::new(7, 999_999_999));
        comes_back(vec![now(), UNIX_EPOCH]);
        comes_back(0_u8..7);
        comes_back(0_u8..=7);
        comes_back::<Option<Range<u8>>>(Some(1..2));
        comes_back::<Option<RangeInclusive<u8>>>(Some(1..=2));
        comes_back(vec![Bound::Included(7), Bound::Excluded(7), Bound::Unbounded]);
    }

    #[test]
    fn options_results_tuples_and_arrays() {
        comes_back(Some(Some(None::<u8>)));
        comes_back(vec![Ok(7_u8), Err("no".to_owned())]);
        comes_back((1_u8, 2_u16, 3_u32, (4_u64, "five".to_owned(), [6_u8, 7]), [(8_u8, 9_u8); 3]));
        comes_back((1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12));
        comes_back([7_u8; 32]);
        comes_back::<[u8; 0]>([]);
        comes_back(Box::new(7_u8));
        comes_back::<Box<[u8]>>(vec![1, 2, 3].into());
    }

    #[test]
    fn collections() {
        comes_back(HashMap::from([("a".to_owned(), vec![1_u8]), ("b".to_owned(), vec![])]));
        comes_back(BTreeMap::from([(1_u8, (2_u8, Some("x".to_owned())))]));
        comes_back(HashSet::from([1_u8, 2, 3]));
        comes_back(BTreeSet::from([1_u8, 2, 3]));
        comes_back(VecDeque::from([1_u8, 2, 3]));
        comes_back(LinkedList::from([1_u8, 2, 3]));
        comes_back(vec![vec![vec![1_u8]], vec![]]);
        let heap = builder::<BinaryHeap<u8>>().build();
        assert!(heap.is_ok());
    }

    #[test]
    fn types_that_check_what_they_read() {
        comes_back((Id([7; 16]), Url("http://a/".to_owned()), Count(NonZeroU64::MAX), Magic::default()));
        comes_back(vec![Id([1; 16]), Id([2; 16])]);
        comes_back(Some(Magic::default()));
    }

    #[test]
    fn enums_of_every_kind_of_variant() {
        #[derive(Default, Serialize, Deserialize, PartialEq, Debug, Clone)]
        enum All {
            #[default]
            Unit,
            Newtype(Id),
            Tuple(u8, Url),
            Struct {
                count: Count,
                again: Option<Box<All>>,
            },
            Empty {},
        }
        let all =
            All::Struct { count: Count::default(), again: Some(Box::new(All::Tuple(7, Url::default()))) };
        for value in [All::Unit, All::Newtype(Id([3; 16])), All::Tuple(1, Url::default()), all, All::Empty {}]
        {
            comes_back(value.clone());
            comes_back((value.clone(), vec![value], 7_u8));
        }
    }

    #[test]
    fn recursive_types() {
        #[derive(Default, Serialize, Deserialize, PartialEq, Debug, Clone)]
        struct Tree {
            id: Id,
            children: Vec<Tree>,
            parent: Option<Box<Tree>>,
            named: BTreeMap<String, Tree>,
        }
        let leaf = Tree { id: Id([1; 16]), ..Tree::default() };
        let inner = Tree { children: vec![leaf.clone(), leaf.clone()], ..leaf.clone() };
        comes_back(Tree {
            named: BTreeMap::from([("a".to_owned(), inner)]),
            parent: Some(Box::new(leaf)),
            ..Tree::default()
        });
    }

    #[test]
    fn wide_types() {
        macro_rules! wide {
            ($($name:ident)*) => {
                #[derive(Default, Serialize, Deserialize, Clone, PartialEq, Debug)]
                #[allow(non_snake_case)]
                struct Wide { $($name: Option<Choice>),* }
                #[derive(Default, Serialize, Deserialize, Clone, PartialEq, Debug)]
                enum Choice { #[default] Nothing, $($name(Id)),* }
            };
        }
        wide!(A B C D E F G H I J K L M N O P Q R S T U V W X Y Z AA AB AC AD AE AF AG AH AI AJ AK AL AM AN AO);
        comes_back(Wide { AO: Some(Choice::AO(Id([7; 16]))), A: Some(Choice::Nothing), ..Wide::default() });
    }
}
