//! The connections between the timely processes of one life.
//!
//! Timely makes them itself when it is given addresses. It retries once a second then, and writes to stdout, which is a pipe to
//! the coordinator here. So a process listens at a port that the system chooses, and connects when all processes listen.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
};

use timely::communication::{
    AllocatorBuilder, Hooks,
    allocator::{ProcessBuilder, zero_copy::initialize::initialize_networking_from_sockets},
};

use crate::Failure;

/// The builders of the workers' allocators, and what ends the connections when it is dropped.
pub type Connected = (Vec<AllocatorBuilder>, Box<dyn std::any::Any + Send>);

/// Connects a process with all others.
///
/// # Errors
///
/// A peer is gone.
pub fn connect(
    listener: &TcpListener,
    process: usize,
    addresses: &[SocketAddr],
    workers: usize,
) -> Result<Connected, Failure> {
    let hooks = Hooks::default();
    let inside = ProcessBuilder::new_typed_vector(workers, hooks.refill.clone(), None);
    let sockets = sockets(listener, process, addresses)?;
    let (builders, guard) = initialize_networking_from_sockets(inside, sockets, process, workers, hooks)?;
    Ok((builders.into_iter().map(AllocatorBuilder::Tcp).collect(), Box::new(guard)))
}

/// Sockets by the number of the peer: a process connects with those before it, and those behind it connect with it.
fn sockets(
    listener: &TcpListener,
    process: usize,
    addresses: &[SocketAddr],
) -> Result<Vec<Option<TcpStream>>, Failure> {
    let mut sockets: Vec<_> = addresses.iter().map(|_| None).collect();
    for (peer, address) in addresses.iter().enumerate().take(process) {
        let mut socket = TcpStream::connect(address)?;
        socket.write_all(&u32::try_from(process)?.to_le_bytes())?;
        sockets[peer] = Some(socket);
    }
    for _ in process + 1..addresses.len() {
        let (mut socket, _) = listener.accept()?;
        let mut peer = [0; 4];
        socket.read_exact(&mut peer)?;
        let slot = sockets.get_mut(u32::from_le_bytes(peer) as usize).ok_or("a peer has no such number")?;
        *slot = Some(socket);
    }
    sockets.iter().flatten().try_for_each(|socket| socket.set_nodelay(true))?;
    Ok(sockets)
}
