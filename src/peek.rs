//! Looking into a socket's queue without taking anything, also behind bytes that are not wanted.
//!
//! Decides nothing. Looking at an offset is SO_PEEK_OFF, which TCP has since Linux 6.9. Invariant: an offset that
//! was set stays until it is cleared, and every look counts from it.
#![expect(
    unsafe_code,
    reason = "no library has this socket option; what is passed is one integer"
)]

use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::buffer::Buffer;
use rustix::net::RecvFlags;

/// No offset: looks begin with the first byte.
const NONE: libc::c_int = -1;

/// Lets looks begin behind so many bytes. `false`: this kernel cannot.
pub fn behind(socket: BorrowedFd<'_>, bytes: usize) -> bool {
    libc::c_int::try_from(bytes).is_ok_and(|offset| set(socket, offset))
}

/// Lets looks begin with the first byte again.
pub fn from_start(socket: BorrowedFd<'_>) {
    // Where it cannot be set, it was never set to anything else.
    set(socket, NONE);
}

/// Fills `into` with what is there from the offset on, which moves behind it; how many bytes that were.
pub fn look<B: Buffer<u8, Output = usize>>(socket: BorrowedFd<'_>, into: B) -> usize {
    let looked = rustix::net::recv(socket, into, RecvFlags::PEEK | RecvFlags::DONTWAIT);
    // An error will be met by whoever reads.
    looked.map_or(0, |(count, _)| count)
}

/// Bytes that a read would find now.
pub fn available(socket: BorrowedFd<'_>) -> usize {
    let found = rustix::io::ioctl_fionread(socket).unwrap_or(0);
    usize::try_from(found).unwrap_or(usize::MAX)
}

fn set(socket: BorrowedFd<'_>, offset: libc::c_int) -> bool {
    // SAFETY: the descriptor is borrowed, so it is open; the kernel reads one integer from where `offset` lies,
    // which outlives the call.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEEK_OFF,
            (&raw const offset).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    result == 0
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn looks_behind_what_is_not_wanted_and_takes_nothing() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut sender = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut socket, _) = listener.accept().unwrap();
        sender.write_all(b"0123456789").unwrap();
        // What is looked at here is there: it waits for all of it.
        let mut all = [0; 10];
        while socket.peek(&mut all).unwrap() < all.len() {}
        assert_eq!(available(socket.as_fd()), 10);
        let looked = |count| {
            let mut bytes = vec![0; count];
            let found = look(socket.as_fd(), &mut bytes[..]);
            String::from_utf8(bytes[..found].to_vec()).unwrap()
        };
        assert_eq!(looked(3), "012");
        if behind(socket.as_fd(), 7) {
            assert_eq!(looked(2), "78");
            assert_eq!(looked(2), "9", "the offset moves");
            assert!(behind(socket.as_fd(), 10));
            assert_eq!(looked(2), "", "and waits for nobody");
            from_start(socket.as_fd());
        }
        assert_eq!(looked(3), "012");
        drop(sender);
        let mut rest = Vec::new();
        socket.read_to_end(&mut rest).unwrap();
        assert_eq!(rest, b"0123456789");
    }
}
