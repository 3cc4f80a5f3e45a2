//! The ids of archives: functions of seed and numbers, so that the layouts of one cohort name the
//! same patients.

use sha2::{Digest, Sha256};

use crate::cohort::Patient;

/// An eight-digit number that begins with `first` and is another one for every `number` below ten
/// million.
fn eight_digits(first: u64, number: u64, step: u64) -> String {
    (first * 10_000_000 + number * step % 9_999_991).to_string()
}

/// MIMIC's subject id: 1xxxxxxx.
pub fn subject(patient: &Patient) -> String {
    eight_digits(1, u64::from(patient.number), 4_715_893)
}

/// MIMIC's study id: 5xxxxxxx.
pub fn study(patient: &Patient, visit: usize) -> String {
    eight_digits(5, u64::from(patient.number) * 8 + visit as u64, 7_304_951)
}

/// Bytes that are unique to a patient, visit and kind.
fn digest(patient: &Patient, visit: usize, kind: &str) -> [u8; 32] {
    Sha256::digest(format!("{} {} {visit} {kind}", patient.seed(), patient.number)).into()
}

/// MIMIC's image id: five groups of eight hexadecimal digits.
pub fn dicom(patient: &Patient, visit: usize, kind: &str) -> String {
    let digest = digest(patient, visit, kind);
    let groups: Vec<String> =
        digest[..20].chunks_exact(4).map(|group| group.iter().map(|byte| format!("{byte:02x}")).collect()).collect();
    groups.join("-")
}

/// An id as RSNA's patients and the lists of COVIDx have it: groups of 8, 4, 4, 4 and 12
/// hexadecimal digits.
pub fn uuid(patient: &Patient, visit: usize) -> String {
    let hex: String = digest(patient, visit, "uuid")[..16].iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

/// A number below `below` for decisions that need no separate random stream.
pub fn hashed_draw(patient: &Patient, visit: usize, kind: &str, below: u32) -> u32 {
    let [a, b, c, d, ..] = digest(patient, visit, kind);
    u32::from_be_bytes([a, b, c, d]) % below
}
