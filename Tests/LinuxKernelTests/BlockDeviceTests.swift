import Glibc
import Testing

import LinuxKernel

@Suite struct BlockDeviceTests {
  /// A sysfs with the disk 8:0 and its partition 8:17, laid out as the kernel does: links into the disk's folder.
  private func sysfs() throws -> Scratch {
    let scratch = Scratch()
    for folder in ["dev", "dev/block", "devices", "devices/sda", "devices/sda/sda1"] {
      #expect(mkdir("\(scratch.path)/\(folder)", 0o755) == 0)
    }
    try scratch.write("8:0\n", to: "devices/sda/dev")
    try scratch.write("8:17\n", to: "devices/sda/sda1/dev")
    try scratch.write("1\n", to: "devices/sda/sda1/partition")
    symlink("../../devices/sda", "\(scratch.path)/dev/block/8:0")
    symlink("../../devices/sda/sda1", "\(scratch.path)/dev/block/8:17")
    return scratch
  }

  @Test(arguments: [UInt32(0), 17])
  func theDiskOfAPartitionIsFound(_ minor: UInt32) throws {
    let sysfs = try sysfs()
    let disk = try BlockDevice.disk(of: BlockDevice(major: 8, minor: minor), path: "/x", sysfs: sysfs.path)
    #expect("\(disk)" == "8:0")
  }

  @Test func nonsenseInSysfsIsNoDisk() throws {
    let sysfs = try sysfs()
    for text in ["", "8", "8:0:0", "8:x", "-1:0", "99999999999:0"] {
      try sysfs.write(text, to: "devices/sda/dev")
      #expect(throws: BlockDevice.Failure.self) {
        try BlockDevice.disk(of: BlockDevice(major: 8, minor: 17), path: "/x", sysfs: sysfs.path)
      }
    }
  }

  @Test func aFileSystemWithoutADeviceSaysSo() {
    let error = #expect(throws: BlockDevice.Failure.self) { try BlockDevice.behind("/proc") }
    #expect(error?.description.contains("/proc") == true)
    #expect(throws: BlockDevice.Failure.self) { try BlockDevice.behind("/no/such/folder") }
  }

  @Test(arguments: [(dev_t(0x0801), "8:1"), (0x2_3045, "560:69"), (0x1000_0010_0203, "4098:259")])
  func numbersAreTakenApart(_ device: dev_t, _ text: String) {
    #expect(BlockDevice(device: device).description == text)
  }
}
