//! The loop and the program, against a control plane that misbehaves.

#![expect(unreachable_pub, reason = "a test binary exports nothing")]

#[cfg(test)]
mod authorities;
#[cfg(test)]
mod disk;
#[cfg(test)]
mod life;
#[cfg(test)]
mod outages;
#[cfg(test)]
#[cfg(target_os = "linux")]
mod process;
#[cfg(test)]
mod rig;
#[cfg(test)]
mod rough;
#[cfg(test)]
#[cfg(target_os = "linux")]
mod running;
