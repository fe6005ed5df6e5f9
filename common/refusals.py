"""What libvirt and ssh say no with: a kind of its own for each no that one can act on.

Each names the codes of libvirt that always mean it; what only libvirt's words tell is
recognised in ``workers/hypervisor/codes.py``.
"""

from common.errors import ConnectionFailed, LibvirtRefused

# ---- On the way to a host.


class HostNameUnknown(ConnectionFailed):
    type = "host-name-unknown"
    title = "The host's name is not known"
    advice = "Check its spelling and this machine's DNS, or write the IP address."
    libvirt = ("VIR_ERR_UNKNOWN_HOST",)


class HostSilent(ConnectionFailed):
    """Nothing came back within the time for opening a connection."""

    type = "host-silent"
    title = "The host does not answer"
    advice = "Look whether the host is up and a firewall lets the port through."


class HostRefuses(ConnectionFailed):
    """The host is there, and nobody listens on that port."""

    type = "host-refuses"
    title = "Nobody listens on the host's port"
    advice = "Start sshd or libvirtd on the host, or correct the port in the URI."


class HostKeyUnknown(ConnectionFailed):
    type = "host-key-unknown"
    title = "The host's key is not known"
    advice = (
        "Add it to `known_hosts` with `ssh-keyscan`, after comparing its fingerprint"
        " with the host's own."
    )


class HostKeyChanged(ConnectionFailed):
    """The host shows another key than the one in ``known_hosts``."""

    type = "host-key-changed"
    title = "The host's key is not the one that is known"
    advice = (
        "If the host was installed anew, replace its line in `known_hosts`; otherwise"
        " somebody may be in between."
    )


class SshKeyUnusable(ConnectionFailed):
    """There is no private key, or one that others can read."""

    type = "ssh-key-unusable"
    title = "No usable ssh key"
    advice = "Make a key with `ssh-keygen -t ed25519 -N ''`, and keep it at mode 600."


class CertificateUntrusted(ConnectionFailed):
    type = "certificate-untrusted"
    title = "One side does not trust the other's certificate"
    advice = "Sign both by the CA that both sides know, the host's for its name."


class CertificateUnusable(ConnectionFailed):
    type = "certificate-unusable"
    title = "No usable TLS certificate of our own"
    advice = "Put cacert.pem, clientcert.pem and clientkey.pem into its folder."


class ForwardingForbidden(ConnectionFailed):
    """The login worked, and sshd does not forward to libvirt's socket."""

    type = "forwarding-forbidden"
    title = "The host's sshd does not forward to libvirt's socket"
    advice = "Allow it: `AllowStreamLocalForwarding yes` in sshd_config on the host."


class AuthenticationFailed(ConnectionFailed):
    type = "authentication-failed"
    title = "The host did not accept the login"
    advice = "Add the public key to `authorized_keys` of that user on the host."
    libvirt = (
        "VIR_ERR_AUTH_FAILED",
        "VIR_ERR_AUTH_CANCELLED",
        "VIR_ERR_AUTH_UNAVAILABLE",
    )


class NoAccessToLibvirt(ConnectionFailed):
    """The account is known, and may not use libvirt's socket."""

    type = "no-access-to-libvirt"
    title = "No permission to use libvirt on the host"
    advice = "Add the user to the group that owns libvirt's socket, often `libvirt`."


class NoLibvirt(ConnectionFailed):
    """The host was reached, and no libvirtd is where it should be."""

    type = "no-libvirt"
    title = "libvirtd does not listen on the host"
    advice = "Start libvirtd there, or name its socket in the URI with `?socket=`."


class LibvirtSilent(ConnectionFailed):
    """libvirtd took the connection and then said nothing."""

    type = "libvirt-silent"
    title = "libvirtd does not answer"
    advice = "Look whether libvirtd hangs on the host, and restart it."


# ---- On a host.


class PermissionDenied(LibvirtRefused):
    """libvirt or the hypervisor lacks a right to a file, a device, an operation."""

    type = "permission-denied"
    title = "Permission denied on the host"
    advice = (
        "Let the user that runs QEMU there read and write what `detail` names, and look"
        " at AppArmor or SELinux and at libvirt's access rules."
    )
    libvirt = ("VIR_ERR_OPERATION_DENIED", "VIR_ERR_ACCESS_DENIED")


class DiskMissing(LibvirtRefused):
    type = "disk-missing"
    title = "A disk of the VM is missing"
    advice = "Bring the file that `detail` names back, or take the disk off the VM."


class DiskInUse(LibvirtRefused):
    """Another process holds the lock on the disk."""

    type = "disk-in-use"
    title = "A disk is in use by another VM or program"
    advice = "Stop what uses the disk; two writers would destroy what is on it."
    libvirt = ("VIR_ERR_RESOURCE_BUSY",)


class StorageMissing(LibvirtRefused):
    type = "storage-missing"
    title = "A storage pool or volume is missing"
    advice = "Look at `virsh pool-list --all` on the host, and start the pool."
    libvirt = ("VIR_ERR_NO_STORAGE_POOL", "VIR_ERR_NO_STORAGE_VOL")


class StorageFull(LibvirtRefused):
    type = "storage-full"
    title = "No space is left on the host"
    advice = "Free space on the file system that holds the VM's disks or its memory."


class StorageFailed(LibvirtRefused):
    type = "storage-failed"
    title = "A disk cannot be read"
    advice = "Look at the image with `qemu-img check`, and whether its format is right."
    libvirt = ("VIR_ERR_STORAGE_PROBE_FAILED",)


class NoKvm(LibvirtRefused):
    """The VM is defined for KVM, and the host has none."""

    type = "no-kvm"
    title = "KVM is not available on the host"
    advice = (
        "Turn virtualisation on in the host's firmware, load `kvm_intel` or `kvm_amd`,"
        " and look at the rights of /dev/kvm; or define the VM with type `qemu`."
    )


class NoEmulator(LibvirtRefused):
    type = "no-emulator"
    title = "The VM's emulator is not installed on the host"
    advice = "Install QEMU for that architecture, or correct `emulator` in the XML."


class MachineTypeUnknown(LibvirtRefused):
    """The VM was made by another version of QEMU, or for another distribution."""

    type = "machine-type-unknown"
    title = "The host's QEMU does not know the VM's machine type"
    advice = (
        "Choose a machine type that `virsh capabilities` lists on the host, or install"
        " a newer QEMU there."
    )


class CpuIncompatible(LibvirtRefused):
    type = "cpu-incompatible"
    title = "The host's CPU cannot do what the VM's CPU needs"
    advice = "Choose a CPU model that `virsh domcapabilities` lists, or `host-model`."
    libvirt = ("VIR_ERR_CPU_INCOMPATIBLE",)


class AddressInUse(LibvirtRefused):
    """An address, port or socket that the VM is to listen on is taken."""

    type = "address-in-use"
    title = "An address or port is in use on the host"
    advice = "Give the VM's display or console another port, or `autoport`."


class LockedByJob(LibvirtRefused):
    """libvirt is busy with the VM: a migration, a backup, a monitor that hangs."""

    type = "locked-by-job"
    title = "Another job of libvirt holds the VM"
    advice = (
        "Wait for the job (`virsh domjobinfo`) or end it (`virsh domjobabort`); if"
        " there is none, the VM's QEMU hangs."
    )
    retryable = True
    libvirt = ("VIR_ERR_OPERATION_TIMEOUT", "VIR_ERR_BLOCK_COPY_ACTIVE")


class OutOfMemory(LibvirtRefused):
    type = "out-of-memory"
    title = "The host has too little memory"
    advice = "Stop other VMs or give this one less memory; hugepages count apart."
    libvirt = ("VIR_ERR_NO_MEMORY",)


class NetworkInactive(LibvirtRefused):
    type = "network-inactive"
    title = "The VM's network is not active"
    advice = "Start it on the host: `virsh net-start`, and `virsh net-autostart`."


class NetworkMissing(LibvirtRefused):
    """There is no such network, bridge or interface on the host."""

    type = "network-missing"
    title = "The VM's network is missing"
    advice = "Make the network or bridge that `detail` names, or choose another one."
    libvirt = ("VIR_ERR_NO_NETWORK", "VIR_ERR_NO_INTERFACE")


class DeviceMissing(LibvirtRefused):
    type = "device-missing"
    title = "A device of the VM is missing"
    advice = "Look whether the host still has what `detail` names, or detach it."
    libvirt = ("VIR_ERR_DEVICE_MISSING", "VIR_ERR_NO_NODE_DEVICE")


class SecretMissing(LibvirtRefused):
    """An encrypted disk needs a secret that the host does not have."""

    type = "secret-missing"
    title = "A secret is missing on the host"
    advice = "Define the secret on the host and give it its value: `virsh secret-set`."
    libvirt = ("VIR_ERR_NO_SECRET", "VIR_ERR_INVALID_SECRET")


class AgentSilent(LibvirtRefused):
    type = "agent-silent"
    title = "The agent inside the VM does not answer"
    advice = "Install and start `qemu-guest-agent` inside the VM."
    retryable = True
    libvirt = ("VIR_ERR_AGENT_UNRESPONSIVE", "VIR_ERR_AGENT_UNSYNCED")


class Unsupported(LibvirtRefused):
    """This hypervisor, or this version of it, cannot do that at all."""

    type = "unsupported-operation"
    title = "The hypervisor cannot do that"
    advice = "Do without, or use a hypervisor or a version that can."
    libvirt = (
        "VIR_ERR_NO_SUPPORT",
        "VIR_ERR_OPERATION_UNSUPPORTED",
        "VIR_ERR_ARGUMENT_UNSUPPORTED",
    )


class ConfigurationInvalid(LibvirtRefused):
    """The VM's own XML asks for what does not exist or does not go together."""

    type = "configuration-invalid"
    title = "The VM's configuration is not possible on this host"
    advice = "Correct the VM's XML with `virsh edit` on the host."
    libvirt = (
        "VIR_ERR_CONFIG_UNSUPPORTED",
        "VIR_ERR_XML_ERROR",
        "VIR_ERR_XML_DETAIL",
        "VIR_ERR_XML_INVALID_SCHEMA",
    )


class HookRefused(LibvirtRefused):
    type = "hook-refused"
    title = "A hook script on the host said no"
    advice = "Look at the scripts in /etc/libvirt/hooks on the host."
    libvirt = ("VIR_ERR_HOOK_SCRIPT_FAILED",)


class FirewallFailed(LibvirtRefused):
    type = "firewall-failed"
    title = "The VM's firewall rules cannot be set"
    advice = "Look at `virsh nwfilter-list` and at nftables on the host."
    libvirt = ("VIR_ERR_BUILD_FIREWALL", "VIR_ERR_NO_NWFILTER")


class Aborted(LibvirtRefused):
    type = "operation-aborted"
    title = "Somebody ended the operation on the host"
    advice = "Ask again if it is still wanted."
    retryable = True
    libvirt = ("VIR_ERR_OPERATION_ABORTED",)
