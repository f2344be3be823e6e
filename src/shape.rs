//! stub
use serde::de::DeserializeOwned;
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
/// stub
pub struct Shape([u8; 4]);
impl Shape {
    /// x
    pub const fn to_bytes(self) -> [u8; 4] {
        self.0
    }
    pub(crate) const fn from_bytes(b: [u8; 4]) -> Shape {
        Shape(b)
    }
}
pub(crate) enum Unsupported {
    NotSelfDescribing { type_name: &'static str },
}
pub(crate) fn shape_of<T: DeserializeOwned>() -> Result<Shape, Unsupported> {
    Ok(Shape([1; 4]))
}
