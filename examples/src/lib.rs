//! Programs that assert their own result.
