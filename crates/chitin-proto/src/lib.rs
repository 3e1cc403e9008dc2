//! The wire types of chitin, shared by gateway, command line and shim.
//!
//! Three languages live here, and nothing else: [`http`] is what clients say to the gateway (the public contract),
//! [`shim`] is what the gateway and a shim say to each other, on sockets and on disk (versioned, because an old shim
//! must be understood by a new gateway), and [`supervisor`] is what the supervisor and a gateway say to each other. No
//! logic beyond encoding, decoding and the checks that decoding needs.

pub mod http;
pub mod shim;
pub mod supervisor;
