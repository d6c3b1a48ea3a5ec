import CSeccomp
import Glibc

/// libseccomp, as far as we need it: rules in, BPF bytes out. It knows every architecture's numbers.
struct FilterCompiler: ~Copyable {
  private let context: scmp_filter_ctx

  private init(_ context: scmp_filter_ctx) { self.context = context }

  /// - Parameters:
  ///   - defaultAction: for what no rule names.
  ///   - otherArchitectures: for a call by another architecture's numbers (32-bit, x32), which means another call than the
  ///     rules name: never a guess.
  static func make(
    defaultAction: UInt32, otherArchitectures: UInt32 = killProcess
  ) throws(SandboxError) -> FilterCompiler {
    guard let context = seccomp_init(defaultAction) else { throw FilterCompiler.error("seccomp_init", -ENOMEM) }
    let compiler = FilterCompiler(context)
    try compiler.attribute(SCMP_FLTATR_ACT_BADARCH, otherArchitectures)
    // A binary tree over call numbers: about 10 comparisons a call in place of several hundred.
    try compiler.attribute(SCMP_FLTATR_CTL_OPTIMIZE, 2)
    return compiler
  }

  deinit { seccomp_release(context) }

  static let allow: UInt32 = 0x7FFF_0000
  static let killProcess: UInt32 = 0x8000_0000
  /// The call waits for who holds the filter's listener (seccomp_unotify(2)).
  static let notify: UInt32 = 0x7FC0_0000
  static func refuse(_ code: CInt) -> UInt32 { 0x0005_0000 | UInt32(code) }

  private func attribute(_ name: scmp_filter_attr, _ value: UInt32) throws(SandboxError) {
    let result = seccomp_attr_set(context, name, value)
    guard result == 0 else { throw FilterCompiler.error("seccomp_attr_set", result) }
  }

  /// Adds a rule for each name. Names this architecture doesn't have are left out: a list for both has them all.
  func rule(_ action: UInt32, _ names: [String], _ conditions: [scmp_arg_cmp] = []) throws(SandboxError) {
    for name in names {
      let number = seccomp_syscall_resolve_name(name)
      guard number != __NR_SCMP_ERROR else {
        // Unknown to this libseccomp: newer than it. Refused by the default action all the same.
        continue
      }
      guard number >= 0 else { continue }  // a pseudo number: not on this architecture
      let result = conditions.withUnsafeBufferPointer {
        seccomp_rule_add_array(context, action, number, UInt32($0.count), $0.baseAddress)
      }
      guard result == 0 else { throw FilterCompiler.error(name, result) }
    }
  }

  /// Adds a rule for each call number of this architecture.
  func rule(_ action: UInt32, numbers: [CInt]) throws(SandboxError) {
    for number in numbers {
      let result = seccomp_rule_add_array(context, action, number, 0, nil)
      guard result == 0 else { throw FilterCompiler.error("call \(number)", result) }
    }
  }

  /// The program, `struct sock_filter` after `struct sock_filter`.
  func compiled() throws(SandboxError) -> SeccompProgram {
    // The largest program the kernel takes (BPF_MAXINSNS, 4096 instructions) is half of what a pipe holds; non-blocking, so that
    // a larger one is an error and not a hang.
    var ends: [CInt] = [-1, -1]
    guard pipe(&ends) == 0 else { throw FilterCompiler.error("pipe", -errno) }
    for end in ends { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }
    _ = fcntl(ends[1], F_SETFL, O_NONBLOCK)
    let result = seccomp_export_bpf(context, ends[1])
    close(ends[1])
    defer { close(ends[0]) }
    guard result == 0 else { throw FilterCompiler.error("seccomp_export_bpf", result) }
    var bytes = [UInt8](repeating: 0, count: 65_536)
    let count = bytes.withUnsafeMutableBytes { read(ends[0], $0.baseAddress, $0.count) }
    guard count > 0, count % 8 == 0, count / 8 <= 4096 else { throw FilterCompiler.error("read", -EIO) }
    bytes.removeSubrange(count...)
    return SeccompProgram(bytes: bytes)
  }

  private static func error(_ what: String, _ code: CInt) -> SandboxError {
    SandboxError(field: "isolation.seccomp", message: "libseccomp refused \(what) (error \(-code))")
  }
}

extension FilterCompiler {
  /// True of a call whose argument has just these bits of `mask`.
  static func masked(_ argument: UInt32, _ mask: UInt64, equals value: UInt64) -> scmp_arg_cmp {
    scmp_arg_cmp(arg: argument, op: SCMP_CMP_MASKED_EQ, datum_a: mask, datum_b: value)
  }

  /// True of a call whose argument's low 32 bits are `value`: what the kernel looks at where it takes an `int`.
  static func low32(_ argument: UInt32, equals value: UInt64) -> scmp_arg_cmp {
    masked(argument, 0xFFFF_FFFF, equals: value)
  }
}

enum SyscallNumbers {
  /// Calls newer than this libseccomp (the numbers from 424 on are the same on every architecture). They get ENOSYS, not EPERM:
  /// a C library that probes for a new call falls back on the one and gives up on the other.
  static var tooNew: [CInt] {
    (CInt(424)...CInt(511)).filter { number in
      guard let name = seccomp_syscall_resolve_num_arch(seccomp_arch_native(), number) else { return true }
      free(name)
      return false
    }
  }
}
