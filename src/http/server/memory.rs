//! What the system's interfaces offer and no safe crate does: unsent bytes of a socket, and giving memory back.

use std::os::fd::{AsRawFd, BorrowedFd};

/// Bytes that were written to a socket and that the peer's system has not confirmed.
pub(super) fn unsent_bytes(socket: BorrowedFd<'_>) -> usize {
    let mut bytes: nix::libc::c_int = 0;
    // SAFETY: the descriptor is open for as long as it is borrowed, and TIOCOUTQ writes one `c_int`.
    #[expect(unsafe_code, reason = "no crate in use offers this request")]
    let result = unsafe { nix::libc::ioctl(socket.as_raw_fd(), nix::libc::TIOCOUTQ, &raw mut bytes) };
    if result == 0 { usize::try_from(bytes).unwrap_or(0) } else { 0 }
}

/// Gives memory back to the system that the allocator keeps. Takes up to some tens of milliseconds.
pub(super) fn release_free() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        // SAFETY: `malloc_trim` may be called at any time from any thread.
        #[expect(unsafe_code, reason = "the standard library does not offer it")]
        let _ = unsafe { nix::libc::malloc_trim(0) };
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read, Write},
        net::{TcpListener, TcpStream},
        os::fd::AsFd,
    };

    use super::*;

    #[test]
    fn unsent_bytes_are_those_that_the_peer_has_no_room_for() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut writer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let mut reader = listener.accept().unwrap().0;
        writer.write_all(b"x").unwrap();
        reader.read_exact(&mut [0]).unwrap();
        assert_eq!(unsent_bytes(writer.as_fd()), 0);
        writer.set_nonblocking(true).unwrap();
        while writer.write(&[0; 8 * 1024]).is_ok() {}
        assert!(unsent_bytes(writer.as_fd()) > 0);
    }
}
