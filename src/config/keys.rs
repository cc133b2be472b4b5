//! placeholder
use super::Secret;
pub fn hash(_p: &Secret, _k: &str) -> [u8; 32] {
    [0; 32]
}
pub fn checksum_ok(_k: &str) -> Option<bool> {
    None
}
