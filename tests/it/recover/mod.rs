//! Opening: what is found, what is refused, what is cleaned up, and what is left alone.

mod damage;
mod log_damage;
mod open;
mod redo;
mod salvage;
mod unsynced;
