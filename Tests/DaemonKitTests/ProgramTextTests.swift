import Testing

import DaemonKit

@Suite struct ProgramTextTests {
  @Test(
    arguments: [
      ("55d0a000-55d0b000 r-xp 0001a000 103:02 1835 /opt/joblet/bin/joblet-exec", 0x55d0_a000..<0x55d0_b000),
      ("55d0a000-55d0b000 r-xp 0001a000 103:02 1835           /opt/joblet/bin/joblet-exec", 0x55d0_a000..<0x55d0_b000),
      ("55d0a000-55d0b000 r--p 0001a000 103:02 1835 /opt/joblet/bin/joblet-exec", nil),
      ("55d0a000-55d0b000 rw-p 0001a000 103:02 1835 /opt/joblet/bin/joblet-exec", nil),
      ("55d0a000-55d0b000 r-xp 0001a000 103:02 1835 /usr/lib/libc.so.6", nil),
      ("55d0a000-55d0b000 r-xp 00000000 00:00 0 [vdso]", nil), ("55d0a000-55d0b000 r-xp 00000000 00:00 0", nil),
      ("55d0b000-55d0a000 r-xp 0001a000 103:02 1835 /opt/joblet/bin/joblet-exec", nil), ("x r-xp", nil), ("", nil),
    ] as [(String, Range<UInt>?)])
  func `only the program's own code is let go`(line: String, range: Range<UInt>?) {
    #expect(ProgramText.range(of: line[...], program: "/opt/joblet/bin/joblet-exec") == range)
  }

  @Test func `the program goes on without it`() {
    ProgramText.release()
    ProgramText.release()
    #expect([3, 1, 2].sorted() == [1, 2, 3])
  }

  /// `ready` is said after each reload too.
  @Test func `only the first ready lets go of anything`() async {
    let firsts = await withTaskGroup(of: Bool.self) { group in
      for _ in 0..<8 { group.addTask { ProgramText.releaseOnce() } }
      return await group.reduce(into: 0) { $0 += $1 ? 1 : 0 }
    }
    #expect(firsts <= 1, "another test of this process may have been first")
    ServiceManager().ready("serving")
    #expect(!ProgramText.releaseOnce())
  }
}
