import Glibc
import LinuxKernel
import Testing

@Suite(.enabled(if: geteuid() == 0, "makes user namespaces with ID maps: root's"))
struct UserNamespaceTests {
  /// What a job uses is counted on its namespace's owner on the host; that must be nobody whom anyone else needs.
  @Test(arguments: [UInt32(1_879_048_192), 1_879_113_728])
  func `a namespace belongs to the first of its IDs, not to root`(first: UInt32) throws {
    let namespace = try UserNamespace.make(firstID: first)
    var owner = uid_t.max
    #expect(ioctl(namespace.descriptor.raw, 0xB704 /* NS_GET_OWNER_UID */, &owner) == 0)
    #expect(owner == first)
    #expect(geteuid() == 0)
  }
}
