//! How many scans a JPEG file has. Each passes over the whole picture, however few bytes it has.

/// Encoders write at most a dozen or two.
const MOST_SCANS: usize = 64;

/// Refuses a file with so many scans that decoding them is all that it is good for.
///
/// # Errors
/// Says how many are read.
pub fn check(bytes: &[u8]) -> Result<(), String> {
    let (mut at, mut scans) = (2, 0);
    // In entropy-coded data 0xff is followed by 0 or a restart marker, so every other marker begins a segment.
    while let Some(found) = bytes.get(at..).and_then(|rest| rest.iter().position(|&byte| byte == 0xff)) {
        at += found + 1;
        match bytes.get(at) {
            None | Some(0xd9) => break,
            Some(0 | 0xff | 0x01 | 0xd0..=0xd8) => continue,
            Some(&marker) => {
                scans += usize::from(marker == 0xda);
                let Some(length) = bytes.get(at + 1..at + 3).and_then(|length| length.first_chunk::<2>()) else {
                    break;
                };
                at += 1 + usize::from(u16::from_be_bytes(*length));
            }
        }
    }
    match scans > MOST_SCANS {
        true => Err(format!("a JPEG of {scans} scans is no radiograph; {MOST_SCANS} are read")),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scans_are_counted_outside_of_other_segments() {
        let scan = [0xff, 0xda, 0, 8, 1, 1, 0, 0, 63, 0, 0x12, 0xff, 0, 0xff, 0xd0, 0x34];
        // An extension may hold a picture of its own.
        let thumbnail = [&[0xff, 0xe1, 4, 2][..], &[0xff, 0xda].repeat(512)].concat();
        let file = |count: usize| [&[0xff, 0xd8][..], &thumbnail, &scan.repeat(count), &[0xff, 0xd9]].concat();
        assert_eq!(check(&file(MOST_SCANS)), Ok(()));
        assert!(check(&file(MOST_SCANS + 1)).unwrap_err().contains("65 scans"));
        assert!(check(&[&file(1)[..], &scan.repeat(100)].concat()).is_ok(), "behind the end is nothing");
        for length in 0..file(1).len() {
            let _ = check(&file(1)[..length]);
        }
    }
}
