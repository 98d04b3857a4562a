; The installer: per user, no administrator's rights. Silent: setup.exe /S /D=C:\folder
; makensis -DVERSION=0.1.0 -DFILES=build/obj/files.nsh -DOUT=build/setup.exe [-DTARGET=amd64-unicode]
; files.nsh, made by package.sh, holds the macros INSTALL_FILES and REMOVE_FILES: just what is in build/dist.

!ifdef TARGET
Target ${TARGET}
!endif
Unicode true
SetCompressor /SOLID lzma
RequestExecutionLevel user
Name "qemu-win"
OutFile "${OUT}"
InstallDir "$LOCALAPPDATA\Programs\qemu-win"
InstallDirRegKey HKCU "Software\qemu-win" "Folder"
BrandingText "qemu-win ${VERSION}"
ShowInstDetails nevershow
ShowUninstDetails nevershow

!include "${FILES}"
!define UNINSTALL_KEY "Software\Microsoft\Windows\CurrentVersion\Uninstall\qemu-win"

Page directory
Page instfiles
UninstPage uninstConfirm
UninstPage instfiles

Section
    SetShellVarContext current
    !insertmacro INSTALL_FILES
    SetOutPath "$INSTDIR"
    WriteUninstaller "$INSTDIR\uninstall.exe"

    CreateDirectory "$SMPROGRAMS\qemu-win"
    CreateShortcut "$SMPROGRAMS\qemu-win\qemu-win demo.lnk" "$INSTDIR\qemu-win.bat"
    CreateShortcut "$SMPROGRAMS\qemu-win\Folder of qemu-win.lnk" "$INSTDIR"
    CreateShortcut "$SMPROGRAMS\qemu-win\Uninstall.lnk" "$INSTDIR\uninstall.exe"

    WriteRegStr HKCU "Software\qemu-win" "Folder" "$INSTDIR"
    WriteRegStr HKCU "${UNINSTALL_KEY}" "DisplayName" "qemu-win"
    WriteRegStr HKCU "${UNINSTALL_KEY}" "DisplayVersion" "${VERSION}"
    WriteRegStr HKCU "${UNINSTALL_KEY}" "DisplayIcon" "$INSTDIR\qemu.exe"
    WriteRegStr HKCU "${UNINSTALL_KEY}" "InstallLocation" "$INSTDIR"
    WriteRegStr HKCU "${UNINSTALL_KEY}" "UninstallString" '"$INSTDIR\uninstall.exe"'
    WriteRegStr HKCU "${UNINSTALL_KEY}" "QuietUninstallString" '"$INSTDIR\uninstall.exe" /S'
    WriteRegDWORD HKCU "${UNINSTALL_KEY}" "NoModify" 1
    WriteRegDWORD HKCU "${UNINSTALL_KEY}" "NoRepair" 1
SectionEnd

; Removes what was installed and nothing else: disk images that somebody keeps in the folder stay.
Section "Uninstall"
    SetShellVarContext current
    !insertmacro REMOVE_FILES
    Delete "$INSTDIR\uninstall.exe"
    RMDir "$INSTDIR"

    Delete "$SMPROGRAMS\qemu-win\qemu-win demo.lnk"
    Delete "$SMPROGRAMS\qemu-win\Folder of qemu-win.lnk"
    Delete "$SMPROGRAMS\qemu-win\Uninstall.lnk"
    RMDir "$SMPROGRAMS\qemu-win"

    DeleteRegKey HKCU "${UNINSTALL_KEY}"
    DeleteRegKey HKCU "Software\qemu-win"
SectionEnd
