//! TransactionLogKey, versions 0 to 0, never flexible.
//!
//! Generated from `protocol/shapes` by `cargo run -p flumen-protocol-generator`; edit the shape.

use crate::codec::{DecodeError, EncodeError, Message, Reader, Writer};

/// TransactionLogKey: the message.
///
/// Key of a record in `__transaction_state`, after a two-byte version.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TransactionLogKey {
    /// The transactional id of the transaction.
    pub transactional_id: String,
}

impl Message for TransactionLogKey {
    const NAME: &'static str = "TransactionLogKey";
    const MIN_VERSION: i16 = 0;
    const MAX_VERSION: i16 = 0;

    fn is_flexible(_: i16) -> bool {
        false
    }

    fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        r.begin::<Self>(version)?;
        let mut it = Self::default();
        it.transactional_id = r.string("transactional_id")?;
        Ok(it)
    }

    fn encode(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
        w.begin::<Self>(version)?;
        w.string("transactional_id", &self.transactional_id)?;
        Ok(())
    }
}
