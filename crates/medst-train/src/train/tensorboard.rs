//! TensorBoard event files with scalars.
//!
//! The format is small: records framed by lengths and CRC-32C checksums (TFRecord), each a protobuf
//! `Event`. The crates that write it bring a protobuf compiler or an image stack along, for three
//! message types that have not changed in years.

use std::fs::{File, OpenOptions};
use std::io::{Result, Write};
use std::path::Path;

/// Appends scalars to an event file.
#[derive(Debug)]
pub struct EventWriter {
    file: File,
}

impl EventWriter {
    /// Opens a new event file `events.out.tfevents.<seconds>.medst` in a folder. It begins with a
    /// session start, which makes TensorBoard forget what earlier files of the run say of `step`
    /// and later: a resumed run does those steps again.
    pub fn create(folder: &Path, seconds: u64, step: u64) -> Result<EventWriter> {
        let path = folder.join(format!("events.out.tfevents.{seconds:010}.medst"));
        let mut writer = EventWriter { file: OpenOptions::new().create(true).append(true).open(path)? };
        let mut event = Vec::new();
        double_field(&mut event, 1, seconds as f64);
        bytes_field(&mut event, 3, b"brain.Event:2");
        writer.record(&event)?;
        let mut start = Vec::new();
        double_field(&mut start, 1, seconds as f64);
        key(&mut start, 2, 0);
        varint(&mut start, step);
        // `session_log { status: START }`
        bytes_field(&mut start, 7, &[1 << 3, 1]);
        writer.record(&start)?;
        Ok(writer)
    }

    /// Writes the scalars of one step, by tag.
    pub fn scalars(&mut self, step: u64, seconds: f64, values: &[(String, f64)]) -> Result<()> {
        let mut summary = Vec::new();
        for (tag, value) in values {
            let mut entry = Vec::new();
            bytes_field(&mut entry, 1, tag.as_bytes());
            key(&mut entry, 2, 5);
            entry.extend((*value as f32).to_le_bytes());
            bytes_field(&mut summary, 1, &entry);
        }
        let mut event = Vec::new();
        double_field(&mut event, 1, seconds);
        key(&mut event, 2, 0);
        varint(&mut event, step);
        bytes_field(&mut event, 5, &summary);
        self.record(&event)
    }

    fn record(&mut self, data: &[u8]) -> Result<()> {
        let length = (data.len() as u64).to_le_bytes();
        let mut record = Vec::with_capacity(data.len() + 16);
        record.extend(length);
        record.extend(masked_checksum(&length).to_le_bytes());
        record.extend(data);
        record.extend(masked_checksum(data).to_le_bytes());
        self.file.write_all(&record)
    }
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn key(out: &mut Vec<u8>, field: u64, wire_type: u64) {
    varint(out, field << 3 | wire_type);
}

fn double_field(out: &mut Vec<u8>, field: u64, value: f64) {
    key(out, field, 1);
    out.extend(value.to_le_bytes());
}

fn bytes_field(out: &mut Vec<u8>, field: u64, bytes: &[u8]) {
    key(out, field, 2);
    varint(out, bytes.len() as u64);
    out.extend(bytes);
}

/// TFRecord's masked CRC-32C.
fn masked_checksum(bytes: &[u8]) -> u32 {
    crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}

/// CRC-32C (Castagnoli), bit by bit, which is fast enough for a few hundred bytes per step.
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_the_published_one() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }

    #[test]
    fn records_are_framed() {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = EventWriter::create(folder.path(), 7, 3).unwrap();
        writer.scalars(3, 8.0, &[("loss/total".into(), 0.5)]).unwrap();
        let path = std::fs::read_dir(folder.path()).unwrap().next().unwrap().unwrap().path();
        let bytes = std::fs::read(path).unwrap();
        let mut rest = &bytes[..];
        let mut records = Vec::new();
        while !rest.is_empty() {
            let length = u64::from_le_bytes(rest[..8].try_into().unwrap()) as usize;
            let data = &rest[12..12 + length];
            assert_eq!(masked_checksum(&rest[..8]).to_le_bytes(), rest[8..12]);
            assert_eq!(masked_checksum(data).to_le_bytes(), rest[12 + length..16 + length]);
            records.push(data.to_vec());
            rest = &rest[16 + length..];
        }
        assert_eq!(records.len(), 3);
        assert!(records[1].ends_with(&[2 << 3, 3, 7 << 3 | 2, 2, 1 << 3, 1]));
        assert!(records[2].windows(10).any(|part| part == b"loss/total"));
    }
}
