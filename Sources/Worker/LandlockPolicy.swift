import LinuxKernel
import Logging
import Sandbox

/// What `isolation.landlock` means on this kernel.
package enum LandlockPolicy {
  /// What jobs get of Landlock; nil is nothing. Says so once where `auto` finds too little.
  /// - Throws: ``SetupError`` where `required` does.
  package static func support(
    _ wanted: String, abi: Result<Int, Errno>, logger: Logger
  ) throws(SetupError) -> LandlockSupport? {
    guard wanted != "off" else { return nil }
    let shortfall: String
    switch abi {
    case .success(let abi):
      if let support = LandlockSupport(abi: abi) { return support }
      shortfall = "the kernel's Landlock has ABI \(abi); \(LandlockSupport.leastABI) (Linux 5.19) is needed"
    case .failure(let error):
      shortfall =
        "the kernel has no Landlock (\(error.name)); it takes CONFIG_SECURITY_LANDLOCK, and 'landlock' in the lsm= boot parameter"
    }
    guard wanted == "auto" else {
      throw SetupError(
        description: "isolation.landlock is 'required', but \(shortfall). Mend that, or set it to auto or off")
    }
    logger.warning("jobs run without Landlock: \(shortfall)")
    return nil
  }
}
