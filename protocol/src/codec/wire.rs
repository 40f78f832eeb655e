//! [`Wire`] for the plain types that arrays hold.

use super::{DecodeError, EncodeError, Reader, Wire, Writer};
use crate::id::TopicId;

/// A number or id: written as it is, in every version.
macro_rules! plain {
    ($($name:ty, $method:ident, $size:literal;)*) => {$(
        impl Wire for $name {
            const MIN_SIZE: usize = $size;

            fn read(r: &mut Reader, field: &'static str, _: i16) -> Result<Self, DecodeError> {
                r.$method(field)
            }

            fn write(&self, w: &mut Writer, _: &'static str, _: i16) -> Result<(), EncodeError> {
                w.$method(*self);
                Ok(())
            }
        }
    )*};
}

plain! {
    i8, i8, 1;
    i16, i16, 2;
    i32, i32, 4;
    i64, i64, 8;
    TopicId, uuid, 16;
}

impl Wire for String {
    const MIN_SIZE: usize = 1;

    fn read(r: &mut Reader, field: &'static str, _: i16) -> Result<Self, DecodeError> {
        r.string(field)
    }

    fn write(&self, w: &mut Writer, field: &'static str, _: i16) -> Result<(), EncodeError> {
        w.string(field, self)
    }
}
