//! What a gateway is measured against: the stack it stands on, with nothing of a gateway in it. Used by `chitin bench`
//! alone; nothing of it runs in a gateway.

mod echo;

pub use echo::echo;
