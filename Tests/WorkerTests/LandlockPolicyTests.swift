import Glibc
import LinuxKernel
import Logging
import Testing
import Worker

@Suite struct LandlockPolicyTests {
  private let logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }

  @Test(arguments: ["auto", "required"]) func isUsedWhereItIs(_ wanted: String) throws {
    #expect(try LandlockPolicy.support(wanted, abi: .success(6), logger: logger)?.abi == 6)
  }

  @Test func isNotUsedWhereItIsOff() throws {
    #expect(try LandlockPolicy.support("off", abi: .success(6), logger: logger) == nil)
  }

  @Test(
    arguments: [
      (.success(1), "ABI 1; 2 (Linux 5.19) is needed"), (.failure(Errno(ENOSYS, "x")), "no Landlock (ENOSYS)"),
      (.failure(Errno(EOPNOTSUPP, "x")), "'landlock' in the lsm= boot parameter"),
    ] as [(Result<Int, Errno>, String)])
  func aShortfallStopsOnlyWhoRequiresIt(_ abi: Result<Int, Errno>, _ sentence: String) throws {
    #expect(try LandlockPolicy.support("auto", abi: abi, logger: logger) == nil)
    let error = #expect(throws: SetupError.self) { try LandlockPolicy.support("required", abi: abi, logger: logger) }
    #expect(error?.description.contains(sentence) == true)
  }
}
