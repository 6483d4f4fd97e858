#!/bin/sh
# Installs or upgrades the Planasonix agent on this Mac. Run again, it changes nothing that is already right.
set -eu
umask 022

readonly user=_planasonixagent
readonly label=com.planasonix.agent
readonly home='/Library/Application Support/Planasonix Agent'
readonly agent="$home/planasonix-agent"
readonly link=/usr/local/bin/planasonix-agent
readonly conf="$home/agent.conf"
readonly ca="$home/ca.pem"
readonly state="$home/state"
readonly plist="/Library/LaunchDaemons/$label.plist"
# What the agent says, a file a day; and what it says before it has its own log.
readonly logs='/Library/Logs/Planasonix Agent'
readonly log=/Library/Logs/planasonix-agent.log
readonly seconds_to_connect=15

usage() {
    cat <<'USAGE'
Usage: install.sh [--token TOKEN | --token-file FILE] [--environment-file FILE]

Installs the Planasonix agent as a launch daemon, enrolls it and starts it. On a Mac that has it already, upgrades
the program and keeps identity and configuration.

  --token TOKEN      the enrollment token (other users of this Mac can read a command line: prefer the others)
  --token-file FILE  a file that holds it; - is standard input
  --environment-file FILE
                     a file of NAME=value lines, as env prints them; - is standard input. Of these it takes its own:
                     the token, PLANASONIX_CA_FILE, and the settings of a proxy. sudo keeps none of them, and writes
                     those that it is told to keep into its log: env | sudo ./install.sh --environment-file -
  --help             this text

Without either, the token is read from PLANASONIX_ENROLLMENT_TOKEN. A Mac that is enrolled needs none.
USAGE
}

# Text of others, such as a line of the configuration, must not act on root's terminal: ? stands for each control
# character, and for each that turns the direction of text (in UTF-8: C2 80-9F, D8 9C, E2 80 8E-8F and A8-AE, E2 81 A6-AF).
turning=$(printf 's/\302[\200-\237]/?/g;s/\330\234/?/g;s/\342\200[\216\217\250-\256]/?/g;s/\342\201[\246-\257]/?/g')
readonly turning
printable() { LC_ALL=C tr '\001-\011\013-\037\177' '?' | LC_ALL=C sed "$turning"; }
say() { printf '%s\n' "$*" | printable; }
warn() { printf 'install.sh: %s\n' "$*" | printable >&2; }
fail() { warn "$*"; exit 1; }
misused() { warn "$*"; usage >&2; exit 2; }

# From here on the token is in this shell alone: no program that it starts inherits it.
read_arguments() {
    token='' inherited=${PLANASONIX_ENROLLMENT_TOKEN-}
    unset PLANASONIX_ENROLLMENT_TOKEN
    while [ $# -gt 0 ]; do
        case $1 in
            --token | --token-file | --environment-file) [ $# -ge 2 ] || misused "$1 needs a value" ;;
        esac
        case $1 in
            --token) token=$2 && shift ;;
            --token=*) token=${1#*=} ;;
            --token-file) read_token "$2" && shift ;;
            --token-file=*) read_token "${1#*=}" ;;
            --environment-file) read_environment "$2" && shift ;;
            --environment-file=*) read_environment "${1#*=}" ;;
            -h | --help) usage && exit 0 ;;
            *) misused "unknown argument: $1" ;;
        esac
        shift
    done
    [ -n "$token" ] || token=$inherited
}

read_token() {
    if [ "$1" = - ]; then
        token=$(cat)
    else
        token=$(cat -- "$1") || fail "cannot read the token file $1"
    fi
    [ -n "$token" ] || fail "the token file $1 is empty"
}

read_environment() {
    if [ "$1" = - ]; then
        take_variables
    else
        [ -r "$1" ] || fail "cannot read the environment file $1"
        take_variables <"$1"
    fi
}

take_variables() {
    while IFS= read -r line || [ -n "$line" ]; do
        case $line in
            PLANASONIX_ENROLLMENT_TOKEN=*) inherited=${line#*=} ;;
            PLANASONIX_CA_FILE=* | HTTPS_PROXY=* | https_proxy=* | HTTP_PROXY=* | http_proxy=*) export "${line?}" ;;
            ALL_PROXY=* | all_proxy=* | NO_PROXY=* | no_proxy=*) export "${line?}" ;;
        esac
    done
}

# Everything that can be refused is refused before anything is changed.
check_host() {
    [ "$(uname -s)" = Darwin ] || fail "this bundle is for macOS, and this is $(uname -s)"
    [ "$(id -u)" -eq 0 ] || fail 'installing needs root: env | sudo ./install.sh --environment-file -'
    bundle=$(cd -- "$(dirname -- "$0")" && pwd)
    # What a browser downloaded bears a mark: the system would not run it, and copies keep it.
    xattr -dr com.apple.quarantine "$bundle" 2>/dev/null || true
    find_binary
    [ -f "$bundle/agent.conf" ] || fail 'the bundle lacks agent.conf; download it again'
    [ -z "${PLANASONIX_CA_FILE-}" ] || [ -r "$PLANASONIX_CA_FILE" ] ||
        fail "cannot read the file that PLANASONIX_CA_FILE names: $PLANASONIX_CA_FILE"
    # They belong to the service's user. Links in their place would lead root elsewhere.
    for place in "$state" "$home/runtime" "$logs" "$log"; do
        [ ! -L "$place" ] || fail "$place is a link, which this does not follow: move it away and run this again"
    done
    if [ -z "$token" ] && ! is_enrolled; then
        fail 'this Mac is not enrolled: set PLANASONIX_ENROLLMENT_TOKEN, or give --token-file FILE'
    fi
    check_places
    check_program
}

# Whether this host is enrolled, by the installed program, which the service's user runs. Where there is none yet, or
# one that does not know the question, an identity that is there will do; the program says later what it is worth.
is_enrolled() {
    answer=2
    if [ -x "$agent" ] && id -u "$user" >/dev/null 2>&1; then
        answer=0
        as_user "$agent" identity </dev/null >/dev/null 2>&1 || answer=$?
    fi
    if [ "$answer" -eq 2 ]; then
        [ -f "$state/identity.json" ]
    else
        [ "$answer" -eq 0 ]
    fi
}

find_binary() {
    machine=$(uname -m)
    # A shell under Rosetta takes an Apple chip for an Intel one.
    [ "$(sysctl -n hw.optional.arm64 2>/dev/null || true)" != 1 ] || machine=arm64
    case $machine in
        x86_64 | amd64) arch=x86_64 ;;
        aarch64 | arm64) arch=aarch64 ;;
        *) arch=$machine ;;
    esac
    binary=$bundle/bin/$arch/planasonix-agent
    if [ ! -f "$binary" ]; then
        there=$(cd "$bundle/bin" 2>/dev/null && echo *) || there=none
        fail "no agent for this machine ($machine) in the bundle; there is: $there"
    fi
}

# Where files are to be made or replaced, they can be.
check_places() {
    cmp -s "$binary" "$agent" || writable "$home"
    [ -f "$conf" ] || writable "$home"
    cmp -s "$bundle/$label.plist" "$plist" || writable "${plist%/*}"
}

# existing PATH: the folder, or the nearest one above it that is there.
existing() {
    place=$1
    while [ ! -d "$place" ]; do
        place=${place%/*}
        place=${place:-/}
    done
}

# writable PATH: asks for a mode that the folder has, which fails like any change of it and changes no time of it.
writable() {
    existing "$1"
    chmod u+x "$place" || fail "$place cannot be changed (above): it has to be writable for the installation"
}

# The program is tried where it will run: a bundle may lie where nothing may be run (noexec).
check_program() {
    if cmp -s "$binary" "$agent" && [ -x "$agent" ]; then
        version=$("$agent" --version) || fail "$agent does not run (above)"
        return 0
    fi
    existing "$home"
    trial=$(mktemp -d "$place/.planasonix-agent.XXXXXX")
    if cp "$binary" "$trial/agent" && chmod 755 "$trial/agent" && version=$("$trial/agent" --version); then
        rm -rf "$trial"
    else
        rm -rf "$trial"
        fail "the agent in the bundle does not run on this Mac ($machine), or nothing may be run below $place (above)"
    fi
}

# The id of an agent, whole: agt_ and 26 characters of lower-case Crockford base 32.
is_agent_id() {
    digits=${1#agt_}
    [ "agt_$digits" = "$1" ] && [ "${#digits}" -eq 26 ] || return 1
    case $digits in
        *[!0123456789abcdefghjkmnpqrstvwxyz]*) return 1 ;;
    esac
}

# Service accounts have the same free number for user and group, below those of people.
add_user() {
    ! id -u "$user" >/dev/null 2>&1 || return 0
    taken=$({ dscl . -list /Users UniqueID && dscl . -list /Groups PrimaryGroupID; } | awk '{ print $2 }')
    number=300
    while printf '%s\n' "$taken" | grep -qx "$number"; do
        number=$((number + 1))
    done
    [ "$number" -lt 500 ] || fail 'no free number below 500 for a service account'
    dscl . -create "/Groups/$user" PrimaryGroupID "$number"
    dscl . -create "/Groups/$user" RealName 'Planasonix agent'
    dscl . -create "/Users/$user" UniqueID "$number"
    dscl . -create "/Users/$user" PrimaryGroupID "$number"
    dscl . -create "/Users/$user" RealName 'Planasonix agent'
    dscl . -create "/Users/$user" NFSHomeDirectory /var/empty
    dscl . -create "/Users/$user" UserShell /usr/bin/false
    dscl . -create "/Users/$user" IsHidden 1
    say "added the service account $user"
}

# put SOURCE TARGET MODE: written beside the old file and renamed over it, so that there is always a whole one.
put() {
    if [ ! -L "$2" ] && cmp -s "$1" "$2" && [ "$(stat -f %Lp:%u:%g "$2")" = "$3:0:0" ]; then
        return 0
    fi
    cp "$1" "$2.new"
    chmod "$3" "$2.new"
    chown 0:0 "$2.new"
    mv -f "$2.new" "$2"
    say "installed $2"
    changed=yes
}

# folder PATH MODE OWNER GROUP: a folder that is right already keeps its times.
folder() {
    [ ! -L "$1" ] || fail "$1 is a link, which this does not follow: move it away and run this again"
    if [ -d "$1" ] && [ "$(stat -f %Mp%Lp:%Su:%Sg "$1")" = "$2:$3:$4" ]; then
        return 0
    fi
    install -d -m "$2" -o "$3" -g "$4" "$1"
}

put_files() {
    folder "$home" 0755 root wheel
    folder "$state" 0700 "$user" "$user"
    # Pipeline runtimes, members of the group, leave their status files here; each may replace its own alone.
    folder "$home/runtime" 3770 "$user" "$user"
    put_ca_file
    put_conf
    put "$binary" "$agent" 755
    put "$bundle/uninstall.sh" "$home/uninstall.sh" 755
    folder "$logs" 0750 "$user" wheel
    if [ ! -f "$log" ]; then
        (umask 027 && : >"$log")
        chown -h "$user:wheel" "$log"
    fi
    put_link
}

# For people at a terminal alone: where it cannot be made, nothing else is missing.
put_link() {
    [ "$(readlink "$link" 2>/dev/null || true)" != "$agent" ] || return 0
    if [ -e "$link" ] || [ -L "$link" ]; then
        warn "$link is there and is not ours: it stays. The command is $agent"
    elif ! { mkdir -p "${link%/*}" && ln -s "$agent" "$link"; }; then
        warn "cannot make $link (above). The command is $agent"
    fi
}

# The host's configuration is its operator's: a bundle brings the first one only. Authorities that were forgotten at
# the first run, which could not enroll then, are added.
put_conf() {
    if [ ! -f "$conf" ]; then
        cp "$bundle/agent.conf" "$conf.new"
        chmod 644 "$conf.new"
        # It keeps seven days; what launchd writes grows.
        printf 'PLANASONIX_LOG_FILE=%s\n' "$logs/agent.log" >>"$conf.new"
        keep_settings "$conf.new" HTTPS_PROXY HTTP_PROXY ALL_PROXY NO_PROXY PLANASONIX_CA_FILE
        mv -f "$conf.new" "$conf"
        say "installed $conf"
        changed=yes
        return 0
    fi
    if [ -n "${PLANASONIX_CA_FILE-}" ] && ! grep -q '^PLANASONIX_CA_FILE=' "$conf"; then
        cp -p "$conf" "$conf.new"
        keep_settings "$conf.new" PLANASONIX_CA_FILE
        mv -f "$conf.new" "$conf"
        changed=yes
    fi
    for name in PLANASONIX_API_HOST PLANASONIX_AGENT_ID; do
        ours=$(sed -n "s/^$name=//p" "$conf")
        theirs=$(sed -n "s/^$name=//p" "$bundle/agent.conf")
        [ "$ours" = "$theirs" ] || warn "kept $name=$ours in $conf (the bundle has $theirs)"
    done
}

# A copy of our own: the service sees neither a home folder nor anybody's temporary files.
put_ca_file() {
    [ -n "${PLANASONIX_CA_FILE-}" ] || return 0
    put "$PLANASONIX_CA_FILE" "$ca" 644
    export PLANASONIX_CA_FILE="$ca"
}

# setting NAME: of a proxy's variables, curl prefers the one in small letters.
setting() {
    case $1 in
        *_PROXY) printenv "$(echo "$1" | tr '[:upper:]' '[:lower:]')" | grep . || printenv "$1" || true ;;
        *) printenv "$1" || true ;;
    esac
}

# keep_settings DRAFT NAME…: who needs a proxy to fetch the bundle needs it to enroll, and so does the service.
keep_settings() {
    draft=$1
    shift
    for name in "$@"; do
        value=$(setting "$name")
        [ -n "$value" ] || continue
        ! grep -q "^$name=" "$draft" || continue
        # It may hold a password.
        chmod 640 "$draft"
        chgrp "$user" "$draft"
        printf '%s=%s\n' "$name" "$value" >>"$draft"
        say "kept $name in $conf"
    done
}

# as_user PROGRAM ARGUMENT…: as the service's user; sudo leaves root's environment behind.
as_user() { (cd / && exec sudo -n -u "$user" -- "$@"); }

# printf is part of the shell: the token shows in no process list.
enroll() {
    enrolled=yes
    if [ -z "$token" ]; then
        is_enrolled || fail 'this Mac is not enrolled: set PLANASONIX_ENROLLMENT_TOKEN, or give --token-file FILE'
        return 0
    fi
    if ! printf '%s\n' "$token" | as_user "$agent" enroll --token-file -; then
        enrolled=no
        return 0
    fi
    name_agent
}

# A host that was registered anew is another agent than the one that its configuration names. The service's user wrote
# the identity, so its program reads it, and what that prints is an id or nothing.
name_agent() {
    named=$(sed -n 's/^PLANASONIX_AGENT_ID=//p' "$conf")
    is=$(as_user "$agent" identity </dev/null) || is=
    if ! is_agent_id "$is"; then
        warn "cannot read which agent this host is (planasonix-agent identity): $conf still names ${named:-none}"
        return 0
    fi
    if [ -z "$named" ] || [ "$named" = "$is" ]; then
        return 0
    fi
    cp -p "$conf" "$conf.new"
    while IFS= read -r line || [ -n "$line" ]; do
        case $line in
            PLANASONIX_AGENT_ID=*) line=PLANASONIX_AGENT_ID=$is ;;
        esac
        printf '%s\n' "$line"
    done <"$conf" >"$conf.new"
    mv -f "$conf.new" "$conf"
    say "$conf names $is now"
    changed=yes
}

# Returns when the daemon has ended: launchd answers before that, and takes no new one while the old one is there.
stop_service() {
    # It fails, too, when the daemon takes its time ("operation now in progress").
    launchctl bootout "system/$label" 2>/dev/null || true
    waited=0
    while launchctl print "system/$label" >/dev/null 2>&1 && [ "$waited" -lt 20 ]; do
        sleep 1
        waited=$((waited + 1))
    done
}

start_service() {
    if ! cmp -s "$bundle/$label.plist" "$plist"; then
        stop_service
        put "$bundle/$label.plist" "$plist" 644
    fi
    if ! launchctl print "system/$label" >/dev/null 2>&1; then
        launchctl enable "system/$label"
        launchctl bootstrap system "$plist" || started=no
    elif [ "$changed" = yes ]; then
        # What the agent said that ends now is no report of the one that starts.
        # Members of the group write in this folder: its owner removes the file, or leaves it.
        as_user rm -f "$home/runtime/agent.json" </dev/null || true
        launchctl kickstart -k "system/$label" || started=no
    fi
}

report() {
    waited=0
    until as_user "$agent" status </dev/null >/dev/null 2>&1 || [ "$waited" -ge "$seconds_to_connect" ]; do
        sleep 1
        waited=$((waited + 1))
    done
    if as_user "$agent" status </dev/null; then
        return 0
    fi
    if [ "$enrolled" = no ]; then
        warn "installed, but not enrolled (above). Put right what it says (settings: $conf), then run this again"
    elif [ "$started" = no ]; then
        warn "installed and enrolled, but the daemon does not start (above; what it says: $log). Put that right, then"
        warn 'run this again: it needs no token'
    else
        warn "installed, but not connected yet. The service goes on trying; 'sudo \"$agent\" diagnose' says why"
    fi
    exit 1
}

main() {
    read_arguments "$@"
    check_host
    changed=no
    started=yes
    say "installing $version"
    add_user
    put_files
    enroll
    start_service
    report
}

main "$@"
