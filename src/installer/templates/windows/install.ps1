#Requires -Version 5.1
#Requires -RunAsAdministrator
<#
.SYNOPSIS
Installs or upgrades the Planasonix agent on this machine. Run again, it changes nothing that is already right.
.DESCRIPTION
Installs the agent as a service, enrolls it and starts it. On a machine that has it already, upgrades the program and
keeps identity and configuration. Without -Token and -TokenFile, the token is read from PLANASONIX_ENROLLMENT_TOKEN;
a machine that is enrolled needs none.
.PARAMETER Token
The enrollment token. A command line can be read by others: prefer the other two ways.
.PARAMETER TokenFile
A file that holds the enrollment token.
#>
[CmdletBinding()]
param(
    [string] $Token,
    [string] $TokenFile
)

Set-StrictMode -Version 2
$ErrorActionPreference = 'Stop'

$service = 'planasonix-agent'
$account = "NT SERVICE\$service"
# A 32-bit shell has another folder of this name.
$programs = Join-Path $(if ($env:ProgramW6432) { $env:ProgramW6432 } else { $env:ProgramFiles }) 'Planasonix Agent'
$agent = Join-Path $programs 'planasonix-agent.exe'
$data = Join-Path $env:ProgramData 'Planasonix Agent'
$conf = Join-Path $data 'agent.conf'
$state = Join-Path $data 'state'
$secondsToConnect = 15
$secondsToUnlock = 15
# Whether what was changed holds from the service's next start on.
$restart = $false

# Text of others, such as a line of the configuration, must not act on an administrator's terminal: ? stands for each
# control character, and for each that turns the direction of text.
function Format-Printable([string] $Text) {
    $Text -replace '[\p{Cc}\u061C\u200E\u200F\u2028-\u202E\u2066-\u206F]', '?'
}

function Stop-WithReason([string] $Reason) {
    [Console]::Error.WriteLine("install.ps1: $(Format-Printable $Reason)")
    exit 1
}

# From here on the token is in this process alone: no program that it starts inherits it.
function Read-Token {
    $found = $env:PLANASONIX_ENROLLMENT_TOKEN
    Remove-Item Env:PLANASONIX_ENROLLMENT_TOKEN -ErrorAction SilentlyContinue
    if ($Token) { $found = $Token }
    elseif ($TokenFile) {
        if (-not (Test-Path -LiteralPath $TokenFile)) { Stop-WithReason "cannot read the token file $TokenFile" }
        $found = Get-Content -LiteralPath $TokenFile -TotalCount 1
        if (-not $found) { Stop-WithReason "the token file $TokenFile is empty" }
    }
    if ($found) { return $found.Trim() }
    return ''
}

function Find-Binary {
    $arch = switch ($env:PROCESSOR_ARCHITECTURE) {
        'AMD64' { 'x86_64' }
        'ARM64' { 'aarch64' }
        # A 32-bit shell on a 64-bit machine.
        'x86' {
            if ($env:PROCESSOR_ARCHITEW6432 -eq 'AMD64') { 'x86_64' }
            elseif ($env:PROCESSOR_ARCHITEW6432 -eq 'ARM64') { 'aarch64' }
            else { 'x86' }
        }
        default { $_ }
    }
    $bin = Join-Path $PSScriptRoot 'bin'
    # Windows on ARM runs x86-64 programs.
    $candidates = @($arch)
    if ($arch -eq 'aarch64') { $candidates += 'x86_64' }
    foreach ($candidate in $candidates) {
        $path = Join-Path (Join-Path $bin $candidate) 'planasonix-agent.exe'
        if (Test-Path -LiteralPath $path) { return $path }
    }
    $there = (Get-ChildItem -LiteralPath $bin -ErrorAction SilentlyContinue | ForEach-Object { $_.Name }) -join ' '
    Stop-WithReason "no agent for this machine ($arch) in the bundle; there is: $there"
}

function Test-Same([string] $Left, [string] $Right) {
    if (-not (Test-Path -LiteralPath $Right)) { return $false }
    return (Get-FileHash -LiteralPath $Left).Hash -eq (Get-FileHash -LiteralPath $Right).Hash
}

# Any user may make files and folders in ProgramData. What is there already must be of SYSTEM or Administrators, and
# must lead nowhere else, or its maker would tell the agent where to take its credential.
function Assert-OfAdministrators([string] $Path) {
    if (-not (Test-Path -LiteralPath $Path)) { return }
    $owner = (Get-Acl -LiteralPath $Path).GetOwner([Security.Principal.SecurityIdentifier]).Value
    $isLink = ((Get-Item -LiteralPath $Path -Force).Attributes -band [IO.FileAttributes]::ReparsePoint) -ne 0
    if ($isLink -or $owner -notin 'S-1-5-18', 'S-1-5-32-544') {
        Stop-WithReason ("$Path is a link, or of somebody who is no administrator ($owner). Look at what is there, then " +
            "remove it; or trust it: icacls `"$Path`" /setowner *S-1-5-32-544")
    }
}

# /l: of a link that took a folder's place meanwhile, the link itself is changed and not what it leads to.
function Invoke-Icacls {
    & icacls.exe @args /l /q | Out-Null
    if ($LASTEXITCODE -ne 0) { Stop-WithReason "cannot set who may use $($args[0])" }
}

# Who may use a folder: SYSTEM, Administrators, and those named. By number where names differ between languages.
function Protect-Folder([string] $Path, [string[]] $Others) {
    Assert-OfAdministrators $Path
    if (-not (Test-Path -LiteralPath $Path)) {
        New-Item -ItemType Directory -Path $Path | Out-Null
        Invoke-Icacls $Path /setowner '*S-1-5-32-544'
    }
    $grants = @('*S-1-5-18:(OI)(CI)F', '*S-1-5-32-544:(OI)(CI)F') + $Others
    Invoke-Icacls $Path /inheritance:r /grant:r @grants
    Assert-OfAdministrators $Path
}

# Copy-Draft SOURCE TARGET: a new file beside the target. What is there under its name, left behind or planted, goes.
function Copy-Draft([string] $Source, [string] $Target) {
    if (Test-Path -LiteralPath "$Target.new") { [IO.File]::Delete("$Target.new") }
    Copy-Item -LiteralPath $Source -Destination "$Target.new"
}

# Windows PowerShell takes what a program writes to standard error for an error, when run from afar.
function Invoke-Agent {
    $ErrorActionPreference = 'Continue'
    $input | & $agent @args
}

# Written beside the old file and renamed over it. A running program cannot be replaced: hence the stop.
function Copy-Program([string] $Source, [string] $Target) {
    if (Test-Same $Source $Target) { return }
    Copy-Draft $Source $Target
    # What Explorer unpacked bears a mark, with which the uninstaller would not run.
    Unblock-File -LiteralPath "$Target.new"
    if ($Target -eq $agent) { Stop-Service -Name $service -ErrorAction SilentlyContinue }
    # The program stays locked for a moment after its end, and while a virus scanner reads it.
    for ($tried = 1; ; $tried++) {
        try {
            Move-Item -LiteralPath "$Target.new" -Destination $Target -Force
            break
        } catch {
            if ($tried -ge $secondsToUnlock) { throw }
            Start-Sleep -Seconds 1
        }
    }
    Write-Output "installed $Target"
}

# Who needs a proxy to fetch the bundle needs it to enroll, and so does the service.
function Save-Proxy([string] $Draft) {
    foreach ($name in 'HTTPS_PROXY', 'HTTP_PROXY', 'ALL_PROXY', 'NO_PROXY', 'PLANASONIX_CA_FILE') {
        $value = [Environment]::GetEnvironmentVariable($name)
        if (-not $value -or (Select-String -LiteralPath $Draft -Pattern "^$name=" -Quiet)) { continue }
        # It may hold a password.
        Invoke-Icacls $Draft /inheritance:r /grant:r '*S-1-5-18:F' '*S-1-5-32-544:F' "${account}:R"
        [IO.File]::AppendAllText($Draft, "$name=$value`n")
        Write-Output "kept $name in $conf"
    }
}

# The machine's configuration is its operator's: a bundle brings the first one only.
function Copy-Configuration {
    $ours = Join-Path $PSScriptRoot 'agent.conf'
    if (-not (Test-Path -LiteralPath $conf)) {
        Copy-Draft $ours $conf
        Invoke-Icacls "$conf.new" /setowner '*S-1-5-32-544'
        Save-Proxy "$conf.new"
        Move-Item -LiteralPath "$conf.new" -Destination $conf
        Write-Output "installed $conf"
        return
    }
    if ($env:PLANASONIX_CA_FILE -and -not (Select-String -LiteralPath $conf -Pattern '^PLANASONIX_CA_FILE=' -Quiet)) {
        # Editors of Windows leave a last line open.
        $open = if ([IO.File]::ReadAllText($conf) -match '[^\n]\z') { "`n" } else { '' }
        [IO.File]::AppendAllText($conf, "${open}PLANASONIX_CA_FILE=$env:PLANASONIX_CA_FILE`n")
        Write-Output "kept PLANASONIX_CA_FILE in $conf"
        $script:restart = $true
    }
    foreach ($name in 'PLANASONIX_API_HOST', 'PLANASONIX_AGENT_ID') {
        $kept = @(Select-String -LiteralPath $conf -Pattern "^$name=" | ForEach-Object { $_.Line })
        $new = @(Select-String -LiteralPath $ours -Pattern "^$name=" | ForEach-Object { $_.Line })
        if ("$kept" -ne "$new") {
            Write-Warning (Format-Printable "kept $kept in $conf (the bundle has $new)")
        }
    }
}

function Invoke-ServiceControl {
    & sc.exe @args | Out-Null
    if ($LASTEXITCODE -ne 0) { Stop-WithReason "sc.exe $($args[0]) failed with $LASTEXITCODE" }
}

# The account is made by Windows for the service: no password, no log-on. What an earlier run left half made runs as
# SYSTEM, so everything but the making is done each time.
function Add-AgentService {
    if (-not (Get-Service -Name $service -ErrorAction SilentlyContinue)) {
        New-Service -Name $service -BinaryPathName "`"$agent`" service" -DisplayName 'Planasonix agent' `
            -Description 'Keeps this machine connected to the Planasonix control plane.' -StartupType Automatic | Out-Null
        Write-Output "added the service $service"
    }
    Invoke-ServiceControl config $service obj= $account
    Invoke-ServiceControl config $service start= delayed-auto
    Invoke-ServiceControl failure $service reset= 86400 actions= restart/5000/restart/5000/restart/5000
    Invoke-ServiceControl failureflag $service 1
}

# A copy of our own: the service does not see a user's folders.
function Copy-Authorities {
    if (-not $env:PLANASONIX_CA_FILE) { return }
    $own = Join-Path $data 'ca.pem'
    Assert-OfAdministrators $own
    if (-not (Test-Same $env:PLANASONIX_CA_FILE $own)) {
        Copy-Draft $env:PLANASONIX_CA_FILE $own
        Invoke-Icacls "$own.new" /setowner '*S-1-5-32-544'
        Move-Item -LiteralPath "$own.new" -Destination $own -Force
        Write-Output "installed $own"
        $script:restart = $true
    }
    $env:PLANASONIX_CA_FILE = $own
}

# Through standard input: the token shows in no process list.
function Invoke-Enrollment([string] $Secret) {
    if (-not $Secret) { return $true }
    $Secret | Invoke-Agent enroll --token-file '-' | Out-Host
    return $LASTEXITCODE -eq 0
}

# The service's account writes the identity: the program reads it, following no link, and what it prints is an agent's
# id or nothing. PROGRAM is the bundle's or the installed one.
function Get-AgentId([string] $Program) {
    $ErrorActionPreference = 'Continue'
    $printed = @(& $Program identity 2>$null)
    if ($LASTEXITCODE -ne 0 -or $printed.Count -ne 1) { return '' }
    $id = [string] $printed[0]
    if ($id -cmatch '\Aagt_[0-9abcdefghjkmnpqrstvwxyz]{26}\z') { return $id }
    return ''
}

# A machine that was registered anew is another agent than the one that its configuration names.
function Update-AgentId {
    $id = Get-AgentId $agent
    if (-not $id) {
        Write-Warning "cannot read which agent this machine is: $conf stays as it is"
        return
    }
    $named = Select-String -LiteralPath $conf -Pattern '^PLANASONIX_AGENT_ID=(.*)' | Select-Object -First 1
    if (-not $named -or $named.Matches[0].Groups[1].Value.Trim() -eq $id) { return }
    # The id is put in as it is: no text that a replacement would read.
    $line = [Text.RegularExpressions.MatchEvaluator] { "PLANASONIX_AGENT_ID=$id" }
    $text = [regex]::Replace([IO.File]::ReadAllText($conf), '(?m)^PLANASONIX_AGENT_ID=[^\r\n]*', $line)
    [IO.File]::WriteAllText($conf, $text)
    Write-Output "$conf names $id now"
    $script:restart = $true
}

function Write-Report([bool] $Enrolled) {
    for ($waited = 0; $waited -lt $secondsToConnect; $waited++) {
        $said = Invoke-Agent status
        if ($LASTEXITCODE -eq 0) { $said | Write-Output; return }
        Start-Sleep -Seconds 1
    }
    $said | Write-Output
    if (-not $Enrolled) {
        Stop-WithReason "installed, but not enrolled (above). Put right what it says (settings: $conf), then run this again"
    }
    Stop-WithReason "installed, but not connected yet. The service goes on trying; '$agent' diagnose says why"
}

# Everything that can be refused is refused before anything is changed.
$secret = Read-Token
$binary = Find-Binary
if (-not (Test-Path -LiteralPath (Join-Path $PSScriptRoot 'agent.conf'))) {
    Stop-WithReason 'the bundle lacks agent.conf; download it again'
}
if ($env:PLANASONIX_CA_FILE -and -not (Test-Path -LiteralPath $env:PLANASONIX_CA_FILE)) {
    Stop-WithReason "cannot read the file that PLANASONIX_CA_FILE names: $env:PLANASONIX_CA_FILE"
}
$version = & $binary --version
if ($LASTEXITCODE -ne 0) { Stop-WithReason 'the agent in the bundle does not run on this machine' }
$folders = $state, (Join-Path $data 'runtime'), (Join-Path $data 'logs')
foreach ($path in @($data, $conf) + $folders) { Assert-OfAdministrators $path }
$known = [bool] (Get-AgentId $binary)
if (-not $secret -and -not $known) {
    Stop-WithReason 'this machine is not enrolled: set PLANASONIX_ENROLLMENT_TOKEN, or give -TokenFile FILE'
}

Write-Output "installing $version"
if (-not (Test-Path -LiteralPath $programs)) { New-Item -ItemType Directory -Path $programs | Out-Null }
try {
    Copy-Program $binary $agent
    Copy-Program (Join-Path $PSScriptRoot 'uninstall.ps1') (Join-Path $programs 'uninstall.ps1')
    Add-AgentService
    # The configuration may be read by all users, what the agent writes by the agent alone.
    Protect-Folder $data @('*S-1-5-32-545:(OI)(CI)RX', "${account}:(OI)(CI)RX")
    # From here on nobody else can put anything there; before, somebody could.
    Assert-OfAdministrators $conf
    Copy-Authorities
    Copy-Configuration
    foreach ($own in $folders) {
        Protect-Folder $own @("${account}:(OI)(CI)M")
    }
    $enrolled = Invoke-Enrollment $secret
    if ($secret -and $enrolled) { Update-AgentId }
} finally {
    # Whatever stood in the way: an agent that ran before goes on.
    if ($known) { Start-Service -Name $service -ErrorAction SilentlyContinue }
}
try {
    if ($restart) { Restart-Service -Name $service } else { Start-Service -Name $service }
} catch {
    Stop-WithReason "installed, but the service does not start: $_ Its log says why: $(Join-Path $data 'logs')"
}
Write-Report $enrolled
