//! The service in-process and over real sockets.

mod access;
mod answers;
mod bounds;
mod overload;
mod pictures;
mod refusals;
mod setup;
mod sockets;
