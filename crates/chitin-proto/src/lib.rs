//! The wire types of chitin, shared by gateway, command line and shim.
//!
//! Two languages live here, and nothing else: [`http`] is what clients say to the gateway (the public contract), and
//! [`shim`] is what the gateway and a shim say to each other, on sockets and on disk (versioned, because an old shim
//! must be understood by a new gateway). No logic beyond encoding, decoding and the checks that decoding needs.

pub mod http;
pub mod shim;
