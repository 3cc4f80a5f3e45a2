//! Files that are not pictures, or that declare more than they contain.

use std::io::Write;

use axum::http::StatusCode;
use medst_data::image::dicom::write::{Pixels, Wrap};
use medst_serve::Limits;

use super::setup::{form, parts, picture, quick, service};

/// A PNG chunk.
fn chunk(kind: &[u8; 4], data: &[u8]) -> Vec<u8> {
    let body = [kind, data].concat();
    let mut crc = flate2::Crc::new();
    crc.update(&body);
    [&(data.len() as u32).to_be_bytes()[..], &body, &crc.sum().to_be_bytes()].concat()
}

/// A PNG file of zeros that declares a size; the stream holds so many zeros.
fn zeros(width: u32, height: u32, bytes: usize) -> Vec<u8> {
    let head = [&width.to_be_bytes()[..], &height.to_be_bytes(), &[8, 0, 0, 0, 0]].concat();
    let mut packed = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
    let block = vec![0; 1 << 16];
    for _ in 0..bytes / block.len() {
        packed.write_all(&block).unwrap();
    }
    packed.write_all(&block[..bytes % block.len()]).unwrap();
    [
        b"\x89PNG\r\n\x1a\n".to_vec(),
        chunk(b"IHDR", &head),
        chunk(b"IDAT", &packed.finish().unwrap()),
        chunk(b"IEND", &[]),
    ]
    .concat()
}

/// The head of a baseline JPEG file of that size, and the beginning of a scan.
fn jpeg(width: u16, height: u16) -> Vec<u8> {
    let [w, h] = [width, height].map(u16::to_be_bytes);
    let mut bytes = vec![0xff, 0xd8, 0xff, 0xc0, 0, 11, 8, h[0], h[1], w[0], w[1], 1, 1, 0x11, 0];
    bytes.extend([0xff, 0xda, 0, 8, 1, 1, 0, 0, 63, 0]);
    bytes.extend([0x55; 200]);
    bytes
}

fn dicom(rows: u16, columns: u16) -> Vec<u8> {
    let mut bytes = Wrap::new(Pixels::Grey8(&[7; 64 * 64]), 64, 64).to_bytes().unwrap();
    for (tag, value) in [([0x28, 0, 0x10, 0], rows), ([0x28, 0, 0x11, 0], columns)] {
        let at = bytes.windows(4).position(|window| window == tag).unwrap() + 8;
        bytes[at..at + 2].copy_from_slice(&value.to_le_bytes());
    }
    bytes
}

#[tokio::test(flavor = "multi_thread")]
async fn bombs_are_refused_by_what_they_declare() {
    let (_, router, _) = service(Limits { pixels: 1_000_000, ..quick() }, None);
    let ask = |bytes: Vec<u8>| {
        let router = router.clone();
        async move { form(&router, "/v1/embed", parts(&[("frontal", Some("a"), &bytes)])).await }
    };
    assert_eq!(ask(zeros(500, 500, 501 * 500)).await.0, StatusCode::OK, "the maker of bombs makes pictures");
    assert_eq!(ask(dicom(64, 64)).await.0, StatusCode::OK);
    for (what, bytes) in [
        ("PNG", zeros(60_000, 60_000, 1000)),
        ("PNG of 2^31", zeros(0x7fff_ffff, 0x7fff_ffff, 1000)),
        ("JPEG", jpeg(65_000, 65_000)),
        ("DICOM", dicom(65_000, 65_000)),
        // 100 MB of zeros in 100 KB.
        ("deflate", zeros(10_000, 10_000, 100_000_000)),
    ] {
        let (status, answer) = ask(bytes).await;
        assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE, "{what}: {answer}");
        assert!(answer["error"]["message"].as_str().unwrap().contains("(limit 1000000)"), "{what}: {answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_picture_holds_and_declares_must_agree() {
    let (_, router, _) = service(Limits { pixels: 1_000_000, ..quick() }, None);
    let good = picture(1, 64);
    let mut crc = good.clone();
    crc[29] ^= 1;
    for (what, bytes) in [
        ("nothing", Vec::new()),
        ("fewer bytes than pixels", zeros(900, 900, 10_000)),
        ("cut off", good[..good.len() / 2].to_vec()),
        ("a wrong checksum", crc),
        ("no tables", jpeg(64, 64)),
        ("no side", zeros(0, 64, 0)),
        ("too thin", zeros(1, 60_000, 120_000)),
        ("fewer values than rows ask for", dicom(900, 900)),
        ("a DICOM head alone", dicom(64, 64)[..200].to_vec()),
        ("a page", b"<svg xmlns='http://www.w3.org/2000/svg'/>".to_vec()),
        ("an archive", b"PK\x03\x04 and so on".to_vec()),
    ] {
        let (status, answer) = form(&router, "/v1/embed", parts(&[("frontal", Some("a"), &bytes)])).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{what}: {answer}");
        let message = answer["error"]["message"].as_str().unwrap();
        assert!(message.contains("frontal") && message.len() < 300, "{what}: {message}");
    }
    // Zeros after the last row are not pixels, and are not unpacked.
    let (status, _) = form(&router, "/v1/embed", parts(&[("frontal", Some("a"), &zeros(64, 64, 200_000_000))])).await;
    assert!(status == StatusCode::OK || status == StatusCode::BAD_REQUEST, "{status}");
    assert_eq!(form(&router, "/v1/embed", parts(&[("frontal", Some("a"), &good)])).await.0, StatusCode::OK);
}
