//! Radiographs: decoding, resizing, cropping.
