//! [`super::flow_hash`] as an eBPF program: assembling it and handing it to the kernel.
//!
//! Registers: r6 the packet, r7 the key, r8 the protocol, r9 the offset of the ports; r10 − 40 the
//! first 40 bytes of the packet, r10 − 48 the four bytes of the ports.

use std::ffi::c_uint;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

use super::{MULTIPLIER, TCP, UDP};

const BPF_PROG_LOAD: c_uint = 5;
const BPF_PROG_TYPE_SOCKET_FILTER: u32 = 1;
const HELPER_SKB_LOAD_BYTES: i32 = 26;
/// The helper above is open to programs of any licence.
const LICENSE: &std::ffi::CStr = c"Apache-2.0";

const STACK_HEADER: i16 = -40;
const STACK_PORTS: i16 = -48;

/// One instruction, as in `linux/bpf.h`.
#[derive(Clone, Copy)]
#[repr(C)]
pub(super) struct Instruction {
    code: u8,
    /// Two four-bit registers; the destination comes first in bit order.
    registers: u8,
    offset: i16,
    immediate: i32,
}

/// The part of `union bpf_attr` that loads a program; the kernel takes the rest as zeros.
#[repr(C)]
struct LoadAttributes {
    program_type: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buffer: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
}

const _: () = {
    assert!(size_of::<Instruction>() == 8);
    assert!(std::mem::offset_of!(LoadAttributes, kernel_version) == 40);
    assert!(size_of::<LoadAttributes>() == 64);
};

/// Loads the program; it lives as long as the descriptor or what it is attached to.
///
/// # Errors
/// `EPERM` where this process may not use BPF, `EINVAL` where the verifier refuses it.
pub(super) fn load(program: &[Instruction]) -> io::Result<OwnedFd> {
    let attributes = LoadAttributes {
        program_type: BPF_PROG_TYPE_SOCKET_FILTER,
        instruction_count: u32::try_from(program.len()).map_err(io::Error::other)?,
        instructions: program.as_ptr().expose_provenance() as u64,
        license: LICENSE.as_ptr().expose_provenance() as u64,
        log_level: 0,
        log_size: 0,
        log_buffer: 0,
        kernel_version: 0,
        flags: 0,
        name: *b"weft_steering\0\0\0",
    };
    // The kernel follows these addresses, so the pointers must be exposed.
    let _ = (program.as_ptr().expose_provenance(), c"Apache-2.0".as_ptr().expose_provenance());
    // SAFETY: pointer and size describe `attributes`; the addresses in it are those of `program`
    // (with its length) and of a static string. The kernel only reads them, during the call.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            BPF_PROG_LOAD,
            &raw const attributes,
            size_of::<LoadAttributes>() as c_uint,
        )
    };
    match i32::try_from(fd) {
        // SAFETY: the kernel just gave us this fd; nobody else owns it.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The program.
pub(super) fn assemble() -> Vec<Instruction> {
    let mut code = Assembler::default();
    code.copy(6, 1);
    code.load_packet(Source::Start, STACK_HEADER, 20, Label::NotIp);
    code.load8(1, STACK_HEADER);
    code.alu64(SHIFT_RIGHT, 1, 4);
    code.jump_if(EQUAL, 1, 6, Label::Ipv6);
    code.jump_if(NOT_EQUAL, 1, 4, Label::NotIp);

    code.load32(7, STACK_HEADER + 12);
    code.load32(1, STACK_HEADER + 16);
    code.xor(7, 1);
    code.big_endian(7, 32);
    code.load8(8, STACK_HEADER + 9);
    code.load8(9, STACK_HEADER);
    code.alu64(AND, 9, 0xf);
    code.alu64(SHIFT_LEFT, 9, 2);
    code.load16(1, STACK_HEADER + 6);
    code.big_endian(1, 16);
    code.alu64(AND, 1, 0x3fff);
    code.jump_if(EQUAL, 1, 0, Label::Ports);
    code.jump_if(NOT_EQUAL, 1, 0, Label::Mix);

    code.place(Label::Ipv6);
    code.load_packet(Source::Start, STACK_HEADER, 40, Label::NotIp);
    code.load32(7, STACK_HEADER + 8);
    for word in 1..8 {
        code.load32(1, STACK_HEADER + 8 + 4 * word);
        code.xor(7, 1);
    }
    code.big_endian(7, 32);
    code.load8(8, STACK_HEADER + 6);
    code.set(9, 40);

    code.place(Label::Ports);
    code.jump_if(EQUAL, 8, TCP.into(), Label::LoadPorts);
    code.jump_if(NOT_EQUAL, 8, UDP.into(), Label::Mix);
    code.place(Label::LoadPorts);
    code.load_packet(Source::R9, STACK_PORTS, 4, Label::Mix);
    code.load16(1, STACK_PORTS);
    code.load16(2, STACK_PORTS + 2);
    code.xor(1, 2);
    code.big_endian(1, 16);
    code.xor(7, 1);

    code.place(Label::Mix);
    code.xor(7, 8);
    code.alu32(MULTIPLY, 7, MULTIPLIER.cast_signed());
    code.alu32(SHIFT_RIGHT, 7, 16);
    code.copy(0, 7);
    code.exit();
    code.place(Label::NotIp);
    code.set(0, 0);
    code.exit();
    code.finish()
}

// Instruction classes and modes.
const LOAD_STACK: u8 = 0x61;
const SIZE_32: u8 = 0x00;
const SIZE_16: u8 = 0x08;
const SIZE_8: u8 = 0x10;
const ALU32: u8 = 0x04;
const JUMP: u8 = 0x05;
const ALU64: u8 = 0x07;
const REGISTER: u8 = 0x08;
// Operations of the arithmetic classes.
const ADD: u8 = 0x00;
const MULTIPLY: u8 = 0x20;
const AND: u8 = 0x50;
const SHIFT_LEFT: u8 = 0x60;
const SHIFT_RIGHT: u8 = 0x70;
const XOR: u8 = 0xa0;
const MOVE: u8 = 0xb0;
const TO_BIG_ENDIAN: u8 = 0xd0 | REGISTER;
// Operations of the jump class.
const EQUAL: u8 = 0x10;
const NOT_EQUAL: u8 = 0x50;
const CALL: u8 = 0x80;
const EXIT: u8 = 0x90;

#[derive(Clone, Copy)]
enum Label {
    Ipv6,
    Ports,
    LoadPorts,
    Mix,
    NotIp,
}

const LABELS: usize = Label::NotIp as usize + 1;

/// Where in the packet to load from.
enum Source {
    Start,
    R9,
}

/// Collects instructions; jumps name a label and get their distance at the end.
#[derive(Default)]
struct Assembler {
    code: Vec<Instruction>,
    places: [usize; LABELS],
    jumps: Vec<(usize, Label)>,
}

impl Assembler {
    fn push(&mut self, code: u8, destination: u8, source: u8, offset: i16, immediate: i32) {
        let registers = if cfg!(target_endian = "little") {
            destination | source << 4
        } else {
            destination << 4 | source
        };
        self.code.push(Instruction { code, registers, offset, immediate });
    }

    /// Copies `len` packet bytes to the stack, or jumps to `short` if the packet ends before.
    fn load_packet(&mut self, source: Source, stack: i16, len: i32, short: Label) {
        self.copy(1, 6);
        match source {
            Source::Start => self.set(2, 0),
            Source::R9 => self.copy(2, 9),
        }
        self.copy(3, 10);
        self.alu64(ADD, 3, stack.into());
        self.set(4, len);
        self.push(JUMP | CALL, 0, 0, 0, HELPER_SKB_LOAD_BYTES);
        self.jump_if(NOT_EQUAL, 0, 0, short);
    }

    fn load8(&mut self, register: u8, stack: i16) {
        self.push(LOAD_STACK | SIZE_8, register, 10, stack, 0);
    }

    fn load16(&mut self, register: u8, stack: i16) {
        self.push(LOAD_STACK | SIZE_16, register, 10, stack, 0);
    }

    fn load32(&mut self, register: u8, stack: i16) {
        self.push(LOAD_STACK | SIZE_32, register, 10, stack, 0);
    }

    fn copy(&mut self, destination: u8, source: u8) {
        self.push(ALU64 | MOVE | REGISTER, destination, source, 0, 0);
    }

    fn set(&mut self, register: u8, value: i32) {
        self.alu64(MOVE, register, value);
    }

    fn xor(&mut self, destination: u8, source: u8) {
        self.push(ALU32 | XOR | REGISTER, destination, source, 0, 0);
    }

    fn alu32(&mut self, operation: u8, register: u8, value: i32) {
        self.push(ALU32 | operation, register, 0, 0, value);
    }

    fn alu64(&mut self, operation: u8, register: u8, value: i32) {
        self.push(ALU64 | operation, register, 0, 0, value);
    }

    fn big_endian(&mut self, register: u8, bits: i32) {
        self.push(ALU32 | TO_BIG_ENDIAN, register, 0, 0, bits);
    }

    fn jump_if(&mut self, condition: u8, register: u8, value: i32, to: Label) {
        self.jumps.push((self.code.len(), to));
        self.push(JUMP | condition, register, 0, 0, value);
    }

    fn exit(&mut self) {
        self.push(JUMP | EXIT, 0, 0, 0, 0);
    }

    fn place(&mut self, label: Label) {
        self.places[label as usize] = self.code.len();
    }

    fn finish(mut self) -> Vec<Instruction> {
        for (at, to) in self.jumps {
            // Relative to the next instruction; the program has well under 2^15.
            self.code[at].offset = (self.places[to as usize] - at - 1) as i16;
        }
        self.code
    }
}
