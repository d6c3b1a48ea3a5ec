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
}
