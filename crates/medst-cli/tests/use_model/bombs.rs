//! Files that are small to send and large to decode: the service reports what is wrong with them,
//! and its memory hardly grows.

use std::fs;
use std::io::Write;

use flate2::Compression;
use flate2::write::{DeflateEncoder, ZlibEncoder};
use medst_data::image::dicom::write::{Pixels, Wrap};

use super::serve::client::{Body, Client};

/// Largest increase of the peak memory by all of the files together. Without limits, each of them
/// took several times as much.
const MOST_MIB: f64 = 150.0;

/// The most memory that a process has had, MiB.
fn peak(process: u32) -> f64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<f64>().unwrap() / 1024.0
}

/// Writes a number of MiB of zeros.
fn zeros(mut to: impl Write, mebibytes: usize) {
    let block = vec![0; 1 << 20];
    (0..mebibytes).for_each(|_| to.write_all(&block).unwrap());
}

/// A PNG file with a colour profile of 400 MiB.
fn profile(png: &[u8]) -> Vec<u8> {
    let mut packed = ZlibEncoder::new(b"profile\0\0".to_vec(), Compression::fast());
    zeros(&mut packed, 400);
    let body = [b"iCCP".to_vec(), packed.finish().unwrap()].concat();
    let mut crc = flate2::Crc::new();
    crc.update(&body);
    let length = (body.len() as u32 - 4).to_be_bytes();
    // The header's chunk ends at 33.
    [&png[..33], &length, &body, &crc.sum().to_be_bytes(), &png[33..]].concat()
}

/// A deflated DICOM file with 400 MiB after its pixels, or of pixels by their length.
fn deflated(pixels: Pixels, long: bool) -> Vec<u8> {
    let data = |syntax| {
        let file = Wrap { transfer_syntax: syntax, ..Wrap::new(pixels, 64, 64) }.to_bytes().unwrap();
        let start = 144 + u32::from_le_bytes(file[140..144].try_into().unwrap()) as usize;
        (file, start)
    };
    let ((head, end), (mut plain, start)) = (data("1.2.840.10008.1.2.1.99"), data("1.2.840.10008.1.2.1"));
    if long {
        let at = plain.windows(4).position(|tag| tag == [0xe0, 0x7f, 0x10, 0]).unwrap() + 8;
        plain[at..at + 4].copy_from_slice(&(400u32 << 20).to_le_bytes());
    }
    let mut encoder = DeflateEncoder::new(head[..end].to_vec(), Compression::fast());
    encoder.write_all(&plain[start..]).unwrap();
    zeros(&mut encoder, 400);
    encoder.finish().unwrap()
}

/// A DICOM file with a sequence of two million empty items before its pixels.
fn items(pixels: Pixels) -> Vec<u8> {
    let plain = Wrap::new(pixels, 64, 64).to_bytes().unwrap();
    let at = plain.windows(4).position(|tag| tag == [0x28, 0, 2, 0]).unwrap();
    let items = [0xfe, 0xff, 0x00, 0xe0, 0, 0, 0, 0].repeat(2_000_000);
    let sequence = [&[0x21, 0, 0x10, 0x10, b'S', b'Q', 0, 0][..], &(items.len() as u32).to_le_bytes(), &items];
    [&plain[..at], &sequence.concat(), &plain[at..]].concat()
}

/// A progressive JPEG file with a thousand scans.
fn scans() -> Vec<u8> {
    let mut bytes = vec![0xff, 0xd8, 0xff, 0xc2, 0, 11, 8, 16, 0, 16, 0, 1, 1, 0x11, 0];
    // A table with one code, of one bit: 16384 blocks have nothing (and as many more as the next 14
    // bits say).
    bytes.extend([&[0xff, 0xc4, 0, 20, 0x10, 1][..], &[0; 15], &[0xe0]].concat());
    // Scans of 512×512 blocks: 16 of these codes with zeros.
    let scan = [&[0xff, 0xda, 0, 8, 1, 1, 0, 1, 63, 0][..], &[0; 16 * 15 / 8]].concat();
    bytes.extend(scan.repeat(1000));
    [bytes, vec![0xff, 0xd9]].concat()
}

pub fn take_little_memory(client: &mut Client, process: u32, png: &[u8]) {
    let before = peak(process);
    let pixels = Pixels::Grey8(&[7; 64 * 64]);
    let values = format!("{{\"studies\": [{}{{}}]}}", "{},".repeat(5_000_000));
    for (what, body, status, expected) in [
        ("profile", Body::parts(&[("frontal", &profile(png), true)]), 200, "image"),
        ("deflated", Body::parts(&[("frontal", &deflated(pixels, false), true)]), 200, "image"),
        ("deflated pixels", Body::parts(&[("frontal", &deflated(pixels, true), true)]), 400, "expected 4096"),
        ("items", Body::parts(&[("frontal", &items(pixels), true)]), 400, "elements and items"),
        ("scans", Body::parts(&[("frontal", &scans(), true)]), 400, "more than 64 scans"),
        ("values", Body { kind: "application/json".into(), bytes: values.into_bytes() }, 400, "too many values"),
    ] {
        let answer = client.post("/v1/embed", &body).unwrap();
        let text = String::from_utf8(answer.body).unwrap();
        assert!(answer.status == status && text.contains(expected), "{what}: {} {text}", answer.status);
        let more = peak(process) - before;
        assert!(more < MOST_MIB, "{what}: {more:.0} MiB more");
    }
}
