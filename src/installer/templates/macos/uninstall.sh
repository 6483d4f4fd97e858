#!/bin/sh
# Removes the Planasonix agent from this Mac: daemon, program, configuration, identity, account and log.
set -eu

readonly user=_planasonixagent
readonly label=com.planasonix.agent
readonly home='/Library/Application Support/Planasonix Agent'
readonly agent="$home/planasonix-agent"
readonly link=/usr/local/bin/planasonix-agent
readonly plist="/Library/LaunchDaemons/$label.plist"

usage() {
    cat <<'USAGE'
Usage: uninstall.sh [--deregister [--force]]

Stops the Planasonix agent and removes it from this Mac.

  --deregister  also remove the agent from the control plane; if that fails, nothing is removed
  --force       remove it from this Mac although the control plane could not be told
  --help        this text
USAGE
}

# Text of others, such as a line of the configuration, must not act on root's terminal: ? stands for each control
# character, and for each that turns the direction of text (in UTF-8: C2 80-9F, D8 9C, E2 80 8E-8F and A8-AE, E2 81 A6-AF).
turning=$(printf 's/\302[\200-\237]/?/g;s/\330\234/?/g;s/\342\200[\216\217\250-\256]/?/g;s/\342\201[\246-\257]/?/g')
readonly turning
printable() { LC_ALL=C tr '\001-\011\013-\037\177' '?' | LC_ALL=C sed "$turning"; }
say() { printf '%s\n' "$*" | printable; }
warn() { printf 'uninstall.sh: %s\n' "$*" | printable >&2; }

read_arguments() {
    deregister=no
    force=no
    for argument in "$@"; do
        case $argument in
            --deregister) deregister=yes ;;
            --force) force=yes ;;
            -h | --help) usage && exit 0 ;;
            *) warn "unknown argument: $argument" && usage >&2 && exit 2 ;;
        esac
    done
}

# What cannot be removed is said before anything is. The mode is one that the folder has: asking for it fails like any
# change of it.
check_places() {
    for thing in "$home" "$plist"; do
        [ -e "$thing" ] || continue
        chmod u+x "${thing%/*}" || { warn "$thing cannot be removed (above): nothing was"; exit 1; }
    done
}

# Returns when the daemon has ended: launchd answers before that.
stop_service() {
    # It fails, too, when the daemon takes its time ("operation now in progress").
    launchctl bootout "system/$label" 2>/dev/null || true
    waited=0
    while launchctl print "system/$label" >/dev/null 2>&1 && [ "$waited" -lt 20 ]; do
        sleep 1
        waited=$((waited + 1))
    done
}

# The credential that could deregister the agent goes with its files: so first this, then those.
leave() {
    [ -x "$agent" ] || return 0
    if [ "$deregister" = no ]; then
        "$agent" uninstall || warn 'the agent could not tidy up after itself (above): its files are removed anyway'
        return 0
    fi
    if "$agent" uninstall --deregister; then
        return 0
    fi
    if [ "$force" = yes ]; then
        warn 'the control plane could not be told: delete the agent there as well'
        return 0
    fi
    [ ! -f "$plist" ] || launchctl bootstrap system "$plist"
    warn 'the agent could not be deregistered (above): nothing was removed. Try again later, or add --force'
    exit 1
}

# What outlived the service would keep its account in use.
end_processes() {
    ! id -u "$user" >/dev/null 2>&1 || pkill -KILL -u "$user" || true
}

# remove_folder PATH: other accounts write in it. The agent's program follows no link, nor one that takes a folder's
# place while it works.
remove_folder() {
    if [ -L "$1" ]; then
        rm -f "$1"
    elif ! "$agent" remove-folders "$1" 2>/dev/null; then
        # It does not run here: out of everybody's reach, then.
        [ -d "$1" ] || return 0
        aside=$(mktemp -d "${1%/*}/.planasonix-agent.XXXXXX")
        mv "$1" "$aside/folder"
        rm -rf "$aside"
    fi
}

remove_files() {
    [ "$(readlink "$link" || true)" != "$agent" ] || rm -f "$link" || warn "cannot remove $link (above)"
    rm -f "$plist" /Library/Logs/planasonix-agent.log
    for folder in "$home/state" "$home/runtime" '/Library/Logs/Planasonix Agent'; do
        remove_folder "$folder"
    done
    rm -rf "$home"
}

remove_user() {
    ! id -u "$user" >/dev/null 2>&1 || dscl . -delete "/Users/$user"
    ! dscl . -read "/Groups/$user" >/dev/null 2>&1 || dscl . -delete "/Groups/$user"
}

main() {
    read_arguments "$@"
    [ "$(id -u)" -eq 0 ] || { warn 'uninstalling needs root: run it with sudo'; exit 1; }
    check_places
    stop_service
    leave
    end_processes
    remove_files
    remove_user
    say 'the Planasonix agent is removed from this Mac'
}

# Read as a whole before it runs, for it removes itself.
main "$@"
